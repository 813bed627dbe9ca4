#include "job.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/model.h"
#include "common/option_checks.h"
#include "core/error.h"
#include "core/file.h"
#include "onnx/import.h"

namespace bitstrata::cli {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
void put(Json& json, const char* key, const std::optional<T>& value) {
  if (value) json[key] = *value;
}

/// Everything that decides the result of a job; --resume must be given the same.
Json identity(const JobOptions& o, const std::string& command) {
  Json json{{"command", command},
            {"model", std::filesystem::absolute(o.model).lexically_normal().string()},
            {"plan", o.plan},
            {"data", o.data.data},
            {"mean", o.data.mean},
            {"std", o.data.std},
            {"method", o.search.method},
            {"policy", o.policy},
            {"targets", o.search.targets},
            {"bits", o.search.bits},
            {"activation_bits", o.search.activation_bits},
            {"latency", o.search.latency},
            {"gumbel", o.search.gumbel},
            {"keep_least", o.search.keep_least},
            {"duals", o.search.duals},
            {"from_float", o.from_float},
            {"calibration", o.calibration},
            {"calibration_images", o.calibration_images},
            {"seed", o.seed},
            {"optimizer", o.training.optimizer}};
  if (o.all_images) json["all_images"] = true;
  put(json, "tied", o.search.tied);
  put(json, "search_epochs", o.search.epochs);
  put(json, "search_lr", o.search.learning_rate);
  put(json, "eta", o.search.eta);
  put(json, "recovery_epochs", o.search.recovery_epochs);
  put(json, "final_epochs", o.search.final_epochs);
  put(json, "drops", o.search.drops);
  put(json, "draws", o.search.draws);
  put(json, "keep", o.search.keep);
  put(json, "keep_bits", o.search.keep_bits);
  put(json, "per_channel", o.per_channel);
  put(json, "epochs", o.training.epochs);
  put(json, "batch", o.training.batch);
  put(json, "lr", o.training.learning_rate);
  put(json, "momentum", o.training.momentum);
  put(json, "weight_decay", o.training.weight_decay);
  put(json, "scale_lr", o.training.scale_rate);
  put(json, "warmup", o.training.warmup);
  put(json, "restart", o.training.restart);
  put(json, "restart_factor", o.training.restart_factor);
  put(json, "label_smoothing", o.training.label_smoothing);
  put(json, "clip_norm", o.training.clip_norm);
  put(json, "distill", o.training.distill);
  put(json, "temperature", o.training.temperature);
  put(json, "distill_layers", o.training.distill_layers);
  put(json, "average", o.training.average);
  put(json, "augment_pad", o.training.augment_pad);
  put(json, "flip", o.training.flip);
  return json;
}

Json parse(const std::filesystem::path& path) {
  try {
    return Json::parse(read_text_file(path));
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: not valid JSON: {}; delete the folder to start again", path.string(),
         printable(error.what()));
  }
}

void check_same_job(const std::filesystem::path& path, const Json& now) {
  const Json then = parse(path);
  if (!then.is_object())
    fail(ErrorCode::kCorruptFile, "{}: expected a JSON object; delete the folder to start again",
         path.string());
  Json keys = then;
  keys.update(now);
  for (const auto& [key, unused] : keys.items()) {
    const Json before = then.contains(key) ? then[key] : Json(),
               after = now.contains(key) ? now[key] : Json();
    if (before != after) {
      fail(ErrorCode::kInvalidArgument,
           "--resume: the job in {} was started with {} = {}, found {}; give the same options or another "
           "--out",
           path.parent_path().parent_path().string(), key, before.dump(), after.dump());
    }
  }
}

}  // namespace

void add_training_options(CLI::App& app, TrainingArguments& a) {
  const auto group = "Training";
  app.add_option("--epochs", a.epochs, "Passes over the training data")
      ->check(CLI::Range(0, 100000))
      ->group(group);
  app.add_option("--batch-size", a.batch, "Images per training step (default 128, or less for small data)")
      ->check(CLI::Range(1, 65536))
      ->group(group);
  app.add_option("--lr", a.learning_rate, "Peak learning rate (default: by the bits)")
      ->check(positive_number())
      ->group(group);
  app.add_option("--optimizer", a.optimizer, "sgd or adam")
      ->check(CLI::IsMember({"sgd", "adam"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--momentum", a.momentum, "Momentum of SGD")->check(number_between(0, 0.9999))->group(group);
  app.add_option("--weight-decay", a.weight_decay, "L2 penalty on weights and PACT clips")
      ->check(non_negative_number())
      ->group(group);
  app.add_option("--scale-lr", a.scale_rate, "Learning rate of the quantizers' scales, relative")
      ->check(non_negative_number())
      ->group(group);
  app.add_option("--warmup", a.warmup, "Epochs of linear warm-up")
      ->check(non_negative_number())
      ->group(group);
  app.add_option("--restart", a.restart,
                 "Epochs of the first cosine cycle (default: one cycle over all epochs)")
      ->check(non_negative_number())
      ->group(group);
  app.add_option("--restart-factor", a.restart_factor, "Growth of later cycles")
      ->check(number_between(1, 100))
      ->group(group);
  app.add_option("--label-smoothing", a.label_smoothing, "Probability spread over all classes")
      ->check(number_between(0, 0.99))
      ->group(group);
  app.add_option("--clip-norm", a.clip_norm, "Largest gradient norm, 0 for no limit")
      ->check(non_negative_number())
      ->group(group);
  app.add_option("--average", a.average,
                 "The result is the mean of the weights over this last share of the steps, 0 to 1")
      ->check(number_between(0, 1))
      ->group(group);
  app.add_option("--augment-pad", a.augment_pad, "Padding of random crops, in pixels")
      ->check(CLI::Range(0, 1024))
      ->group(group);
  app.add_option("--flip", a.flip, "Mirror half of the training images (true or false)")->group(group);
  app.add_option("--checkpoint-seconds", a.checkpoint_seconds, "Time between checkpoints")
      ->check(positive_number())
      ->capture_default_str()
      ->group(group);
}

void add_distillation_options(CLI::App& app, TrainingArguments& a) {
  const auto group = "Training";
  app.add_option("--distill", a.distill, "Share of the loss that follows the float network, 0 to 1")
      ->check(number_between(0, 1))
      ->group(group);
  app.add_option("--temperature", a.temperature, "Temperature of distillation")
      ->check(positive_number())
      ->group(group);
  app.add_option("--distill-layers", a.distill_layers,
                 "Weight in the loss of the distance of every layer's values from the float network's")
      ->check(non_negative_number())
      ->group(group);
}

void fill_in_defaults(JobOptions& o) {
  SearchArguments& s = o.search;
  if (o.out.empty()) o.out = std::filesystem::path(o.model).stem().string() + "-job";
  if (s.method.empty() && s.bits.empty() && s.targets.empty() && o.plan.empty()) {
    s.method = "ebs";
    s.targets = {"avg-bits=4", "bitops=4x4"};
  }
  if (s.method.empty()) s.method = "uniform";
  if (s.bits.empty())
    s.bits = s.method == "ccq" ? std::vector{3, 4, 6, 8} : std::vector{1, 2, 3, 4, 5, 6, 7, 8};
}

torch::Device prepare_torch(const std::string& device, const MachineOptions& machine) {
  torch::set_num_threads(machine.resolved_threads());
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setAllowTF32CuBLAS(false);
  if (device == "cpu") return torch::kCPU;
  if (device != "cuda")
    fail(ErrorCode::kInvalidArgument, "--device: found '{}', expected cpu or cuda", printable(device));
  if (!torch::cuda::is_available())
    fail(ErrorCode::kUnsupported, "--device cuda: this LibTorch sees no CUDA device; use --device cpu");
  return torch::kCUDA;
}

Workbench open_workbench(const std::string& model, const DataOptions& options, const MachineOptions& machine,
                         const std::string& device, uint64_t seed, bool need_train, bool need_test,
                         bool quiet) {
  Workbench bench;
  bench.device = prepare_torch(device, machine);
  bench.graph = onnx::import_file(model);
  const auto& input = bench.graph.values[static_cast<size_t>(bench.graph.input)].dims;
  const data::ImageShape shape = image_shape(input);
  bench.normalization = resolve_normalization(options, bench.graph.mean, bench.graph.std, shape.channels);
  bench.dataset.emplace(
      load_dataset(options, shape, need_train, need_test, machine.resolved_threads(), quiet));
  if (bench.graph.outputs.size() != 1)
    fail(ErrorCode::kUnsupported, "{}: found {} outputs, expected one, the logits", model,
         bench.graph.outputs.size());
  const auto classes =
      program::elements(bench.graph.values[static_cast<size_t>(bench.graph.outputs[0])].dims);
  check_classes(*bench.dataset, bench.graph.class_names, classes);
  bench.graph.mean = bench.normalization.mean;
  bench.graph.std = bench.normalization.std;
  if (bench.graph.class_names.empty() &&
      static_cast<int64_t>(bench.dataset->class_names().size()) == classes) {
    bench.graph.class_names = bench.dataset->class_names();
  }
  if (need_train) bench.holdout = data::holdout(*bench.dataset, seed, kHoldoutFraction);
  return bench;
}

train::TrainOptions resolve_training(const TrainingArguments& a, train::TrainOptions o,
                                     const data::Dataset& dataset, uint64_t seed) {
  o.seed = seed;
  o.optimizer = train::parse_optimizer(a.optimizer);
  if (o.optimizer == train::Optimizer::kAdam) o.learning_rate = 1e-3;
  // Small data sets still need some tens of steps per epoch.
  const size_t samples = dataset.num_samples(data::Split::kTrain);
  while (o.batch > 16 && samples / static_cast<size_t>(o.batch) < 40) o.batch /= 2;
  const auto take = [](const auto& given, auto& value) {
    if (given) value = *given;
  };
  take(a.epochs, o.epochs);
  take(a.batch, o.batch);
  take(a.learning_rate, o.learning_rate);
  take(a.momentum, o.momentum);
  take(a.weight_decay, o.weight_decay);
  take(a.scale_rate, o.scale_rate);
  take(a.warmup, o.warmup_epochs);
  take(a.restart, o.restart_epochs);
  take(a.restart_factor, o.restart_factor);
  take(a.label_smoothing, o.label_smoothing);
  take(a.clip_norm, o.clip_norm);
  take(a.distill, o.distill_weight);
  take(a.temperature, o.distill_temperature);
  take(a.distill_layers, o.layer_weight);
  take(a.average, o.average_share);
  data::Augmentation augmentation = dataset.default_augmentation();
  take(a.augment_pad, augmentation.pad);
  take(a.flip, augmentation.flip);
  o.augmentation = augmentation;
  return o;
}

double parse_duration(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  const double factor = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (error != std::errc{} || !(value > 0) || !std::isfinite(value) || factor == 0) {
    fail(ErrorCode::kInvalidArgument, "found '{}', expected a time such as 90s, 30m or 2h", printable(text));
  }
  return value * factor;
}

JobProgress read_progress(const std::filesystem::path& path) {
  JobProgress progress;
  if (!std::filesystem::exists(path)) return progress;
  const Json json = parse(path);
  try {
    progress.float_accuracy = json.at("float_accuracy").get<double>();
    progress.seconds = json.at("seconds").get<double>();
    progress.search_done = json.at("search_done").get<bool>();
    progress.search_seconds = json.at("search_seconds").get<double>();
    progress.search_epochs = json.at("search_epochs").get<double>();
    for (const Json& e : json.at("epochs")) {
      progress.epochs.push_back(
          {e.at("epoch").get<int>(), e.at("loss").get<double>(), e.at("train_accuracy").get<double>(), {}});
      if (e.contains("holdout_accuracy"))
        progress.epochs.back().holdout_accuracy = e["holdout_accuracy"].get<double>();
    }
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: {}; delete the folder to start again", path.string(),
         printable(error.what()));
  }
  return progress;
}

Json to_json(const JobProgress::Epoch& epoch) {
  Json json{{"epoch", epoch.epoch}, {"loss", epoch.loss}, {"train_accuracy", epoch.train_accuracy}};
  put(json, "holdout_accuracy", epoch.holdout_accuracy);
  return json;
}

void write_progress(const std::filesystem::path& path, const JobProgress& progress) {
  Json json{{"float_accuracy", progress.float_accuracy}, {"seconds", progress.seconds},
            {"search_done", progress.search_done},       {"search_seconds", progress.search_seconds},
            {"search_epochs", progress.search_epochs},   {"epochs", Json::array()}};
  for (const auto& epoch : progress.epochs) json["epochs"].push_back(to_json(epoch));
  write_file_atomically(path, std::string_view(json.dump(1) + "\n"));
}

Job::Job(const JobOptions& options, const std::string& command)
    : options_(options), command_(command), folder_{options.out} {
  make_folders(folder_.checkpoint());
  const auto lock_path = folder_.checkpoint() / "lock";
  lock_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0)
    fail(ErrorCode::kIo, "cannot write to {}: {}", folder_.checkpoint().string(), std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    fail(ErrorCode::kInvalidArgument,
         "another bitstrata is working in {}; wait for it or choose another --out", folder_.root.string());
  }
  const Json now = identity(options, command);
  if (options.overwrite) {
    for (const auto& file :
         {folder_.options(), folder_.progress(), folder_.start_network(), folder_.start_quantizers(),
          folder_.training(), folder_.network(), folder_.quantizers(), folder_.summary(), folder_.model(),
          folder_.log(), folder_.report(), folder_.plan(), folder_.pareto(), folder_.search(),
          folder_.latency(), folder_.searched_network(), folder_.searched_quantizers()}) {
      std::error_code ignored;
      const bool is_input = !options.plan.empty() && std::filesystem::equivalent(file, options.plan, ignored);
      if (!is_input) std::filesystem::remove(file, ignored);
    }
  }
  if (std::filesystem::exists(folder_.options())) {
    if (!options.resume) {
      fail(ErrorCode::kInvalidArgument,
           "{} already holds a job; add --resume to go on with it, --overwrite to start again, or choose "
           "another --out",
           folder_.root.string());
    }
    check_same_job(folder_.options(), now);
  } else {
    write_file_atomically(folder_.options(), std::string_view(now.dump(1) + "\n"));
  }
  progress_ = read_progress(folder_.progress());
  earlier_seconds_ = progress_.seconds;
  if (!options.time_budget.empty()) budget_seconds_ = parse_duration(options.time_budget);
}

Job::~Job() {
  if (lock_ >= 0) ::close(lock_);
}

double Job::seconds() const {
  return earlier_seconds_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

bool Job::out_of_time(double share) const {
  return budget_seconds_ > 0 && seconds() > share * budget_seconds_;
}

void Job::save_progress() {
  progress_.seconds = seconds();
  write_progress(folder_.progress(), progress_);
}

void Job::log(const std::string& line) {
  if (!options_.output.quiet) write_stderr_line(line);
  std::ofstream file(folder_.log(), std::ios::app);
  const std::time_t now = std::time(nullptr);
  char stamp[32];
  std::tm utc{};
  std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  file << stamp << ' ' << line << '\n';
}

std::string Job::resume_hint() const {
  return fmt::format("run the same command with --resume to go on (saved in {})",
                     folder_.checkpoint().string());
}

}  // namespace bitstrata::cli
