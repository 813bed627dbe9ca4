#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common/commands.h"
#include "common/evaluate.h"
#include "common/interrupt.h"
#include "common/model.h"
#include "common/option_checks.h"
#include "common/progress.h"
#include "compile/lower.h"
#include "core/error.h"
#include "core/file.h"
#include "data/batches.h"
#include "format/bst.h"
#include "job.h"
#include "kernels/onednn_cap.h"
#include "plan/plan.h"
#include "runtime/session.h"
#include "stages.h"
#include "train/exact.h"

/// verify: the training side's evaluation and the runtime run the same images; every tensor of codes and
/// every prediction must be equal. The runtime runs once per instruction set in a process of its own, because
/// oneDNN takes its cap once per process. The two sides meet in digests, one hash per image and tensor, so
/// that 10,000 images need no gigabytes.
namespace bitstrata::cli {
namespace {

using Json = nlohmann::ordered_json;
using program::TensorId;

constexpr int kBatch = 50;
constexpr size_t kExaminedImages = 64;  // differing images whose codes are compared one by one

struct VerifyOptions {
  std::string model;
  DataOptions data;
  MachineOptions machine;
  OutputOptions output;
  uint64_t images = 0;                 // 0: all
  std::string side_file, result_file;  // of the hidden per-ISA command
};

/// Tensors of codes that ops write, in op order.
std::vector<TensorId> code_tensors(const program::Program& program) {
  std::vector<TensorId> ids;
  for (const program::Op& op : program.ops) {
    for (TensorId id : op.outputs) {
      if (program.tensors[static_cast<size_t>(id)].code) ids.push_back(id);
    }
  }
  return ids;
}

/// What one side computed: per image one digest for each code tensor, and the predicted class.
struct Side {
  size_t tensors = 0;
  std::vector<uint64_t> digests;  ///< [images, tensors]
  std::vector<int32_t> predictions;
  size_t images() const { return predictions.size(); }
};

void write_side(const std::string& path, const Side& side) {
  std::vector<uint8_t> bytes(16 + side.digests.size() * 8 + side.predictions.size() * 4);
  const uint64_t head[2] = {side.images(), side.tensors};
  std::memcpy(bytes.data(), head, 16);
  std::memcpy(bytes.data() + 16, side.digests.data(), side.digests.size() * 8);
  std::memcpy(bytes.data() + 16 + side.digests.size() * 8, side.predictions.data(),
              side.predictions.size() * 4);
  write_file_atomically(path, bytes);
}

Side read_side(const std::string& path) {
  const auto bytes = read_file(path, uint64_t{8} << 30);
  uint64_t head[2] = {};
  if (bytes.size() >= 16) std::memcpy(head, bytes.data(), 16);
  Side side;
  side.tensors = head[1];
  if (bytes.size() != 16 + head[0] * head[1] * 8 + head[0] * 4)
    fail(ErrorCode::kCorruptFile, "{}: damaged digest file", path);
  side.digests.resize(head[0] * head[1]);
  side.predictions.resize(head[0]);
  std::memcpy(side.digests.data(), bytes.data() + 16, side.digests.size() * 8);
  std::memcpy(side.predictions.data(), bytes.data() + 16 + side.digests.size() * 8,
              side.predictions.size() * 4);
  return side;
}

/// The images to compare and how they become inputs.
struct Images {
  data::Dataset dataset;
  data::Normalization normalization;
  std::vector<int64_t> indices;
  torch::Tensor batch(size_t begin, size_t end) const {
    const auto& shape = dataset.shape();
    const torch::Tensor x =
        torch::empty({static_cast<int64_t>(end - begin), shape.channels, shape.height, shape.width});
    data::BatchFiller(dataset, data::Split::kTest, normalization, 0)
        .fill({indices.data() + begin, end - begin}, {x.data_ptr<float>(), static_cast<size_t>(x.numel())});
    return x;
  }
};

Images load_images(const VerifyOptions& options, const program::Program& program) {
  const auto shape = image_shape(program.tensors[static_cast<size_t>(program.input)].dims);
  const auto normalization = resolve_normalization(options.data, program.mean, program.std, shape.channels);
  data::Dataset dataset = load_dataset(options.data, shape, false, true, options.machine.resolved_threads(),
                                       options.output.quiet);
  check_classes(dataset, program.class_names, num_outputs(program));
  auto indices = data::all_indices(dataset.num_samples(data::Split::kTest));
  if (options.images > 0 && options.images < indices.size()) indices.resize(options.images);
  return {std::move(dataset), normalization, std::move(indices)};
}

/// All code tensors of one batch from the training side, as bytes [n][elems].
std::map<TensorId, std::vector<uint8_t>> exact_codes(train::ExactEvaluator& exact, const torch::Tensor& x,
                                                     torch::Tensor* logits = nullptr) {
  std::map<TensorId, std::vector<uint8_t>> codes;
  const torch::Tensor y = exact.run(x, [&](size_t, TensorId id, const torch::Tensor& tensor) {
    if (!exact.program().tensors[static_cast<size_t>(id)].code) return;
    const torch::Tensor bytes = tensor.to(torch::kByte).contiguous();
    codes[id].assign(bytes.data_ptr<uint8_t>(), bytes.data_ptr<uint8_t>() + bytes.numel());
  });
  if (logits) *logits = y.contiguous();
  return codes;
}

Side training_side(const VerifyOptions& options, const program::Program& program, const Images& images) {
  train::ExactEvaluator exact(program);
  const auto ids = code_tensors(program);
  Side side{ids.size(), {}, {}};
  Progress progress("training arithmetic", images.indices.size(), "images", options.output.quiet);
  for (size_t begin = 0; begin < images.indices.size(); begin += kBatch) {
    if (interrupted()) fail(ErrorCode::kInterrupted, "interrupted; run verify again");
    const size_t end = std::min(images.indices.size(), begin + kBatch), n = end - begin;
    torch::Tensor logits;
    const auto codes = exact_codes(exact, images.batch(begin, end), &logits);
    for (size_t i = 0; i < n; ++i) {
      for (TensorId id : ids) {
        const auto& bytes = codes.at(id);
        const size_t each = bytes.size() / n;
        side.digests.push_back(hash64(std::span(bytes).subspan(i * each, each)));
      }
      const size_t classes = static_cast<size_t>(logits.numel()) / n;
      side.predictions.push_back(
          static_cast<int32_t>(best_class({logits.data_ptr<float>() + i * classes, classes})));
    }
    progress.update(end);
  }
  return side;
}

/// The hidden per-ISA command: runs the runtime over the images, compares digests, and writes what differs.
void run_runtime_side(const VerifyOptions& options) {
  const Isa isa = options.machine.resolved_isa();
  kernels::cap_onednn(isa);
  program::Program program = format::read(options.model);
  const auto ids = code_tensors(program);
  const Images images = load_images(options, program);
  const Side expected = read_side(options.side_file);
  if (expected.images() != images.indices.size() || expected.tensors != ids.size()) {
    fail(ErrorCode::kJobFailed, "{}: the packed network has {} tensors of codes, the trained one {}",
         options.model, ids.size(), expected.tensors);
  }
  const size_t classes = static_cast<size_t>(num_outputs(program));
  runtime::Options prepare;
  prepare.threads = options.machine.resolved_threads();
  prepare.isa = isa;
  prepare.max_batch = kBatch;
  prepare.keep_all_tensors = true;
  const auto model = runtime::Model::prepare(std::move(program), prepare);
  runtime::Session session(model);
  std::vector<float> logits(kBatch * classes);
  uint64_t wrong_predictions = 0, wrong_images = 0;
  Json examined = Json::array();
  Progress progress(fmt::format("runtime, {}", to_string(isa)), images.indices.size(), "images",
                    options.output.quiet);
  for (size_t begin = 0; begin < images.indices.size(); begin += kBatch) {
    if (interrupted()) fail(ErrorCode::kInterrupted, "interrupted; run verify again");
    const size_t end = std::min(images.indices.size(), begin + kBatch), n = end - begin;
    const torch::Tensor x = images.batch(begin, end);
    session.run({x.data_ptr<float>(), static_cast<size_t>(x.numel())}, static_cast<int>(n),
                std::span(logits.data(), n * classes));
    for (size_t i = 0; i < n; ++i) {
      const size_t image = begin + i;
      wrong_predictions += static_cast<int32_t>(best_class({logits.data() + i * classes, classes})) !=
                           expected.predictions[image];
      bool equal = true;
      for (size_t t = 0; t < ids.size(); ++t) {
        equal =
            hash64(session.codes(ids[t], static_cast<int>(i))) == expected.digests[image * ids.size() + t] &&
            equal;
      }
      if (equal) continue;
      ++wrong_images;
      if (examined.size() >= kExaminedImages) continue;
      Json codes = Json::array();
      for (TensorId id : ids) codes.push_back(session.codes(id, static_cast<int>(i)));
      examined.push_back({{"image", image}, {"codes", std::move(codes)}});
    }
    progress.update(end);
  }
  Json kernels = Json::object();
  for (size_t i = 0; i < model->program().ops.size(); ++i) {
    if (model->kernel_name(i) != "-")
      kernels[model->kernel_name(i)] = kernels.value(model->kernel_name(i), 0) + 1;
  }
  write_file_atomically(options.result_file, std::string_view(Json{
                                                 {"wrong_predictions", wrong_predictions},
                                                 {"wrong_images", wrong_images},
                                                 {"examined", examined},
                                                 {"kernels",
                                                  kernels}}.dump()));
}

/// Runs this executable again for one ISA and returns what it wrote.
Json runtime_side_in_process(const VerifyOptions& options, const std::string& model, Isa isa,
                             const std::string& side_file) {
  const std::string result_file = side_file + "." + to_string(isa);
  std::vector<std::string> words{"bitstrata",
                                 "verify-runtime",
                                 model,
                                 "--data",
                                 options.data.data,
                                 "--isa",
                                 to_string(isa),
                                 "--threads",
                                 std::to_string(options.machine.resolved_threads()),
                                 "--images",
                                 std::to_string(options.images),
                                 "--side",
                                 side_file,
                                 "--result",
                                 result_file};
  if (options.output.quiet) words.push_back("--quiet");
  const auto add_list = [&](const char* flag, const std::vector<float>& values) {
    if (values.empty()) return;
    words.push_back(flag);
    for (float value : values) words.push_back(fmt::format("{}", value));
  };
  add_list("--mean", options.data.mean);
  add_list("--std", options.data.std);
  if (!options.data.cache.empty()) words.insert(words.end(), {"--cache", options.data.cache});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0)
    fail(ErrorCode::kIo, "verify: cannot start a process for {}: {}", to_string(isa), std::strerror(errno));
  if (child == 0) {
    ::execv("/proc/self/exe", arguments.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    if (interrupted()) fail(ErrorCode::kInterrupted, "interrupted; run verify again");
    fail(ErrorCode::kJobFailed, "verify: the runtime on {} failed with status {}", to_string(isa), status);
  }
  Json result = Json::parse(read_text_file(result_file, uint64_t{8} << 30));
  std::filesystem::remove(result_file);
  return result;
}

/// Compares the examined images code by code; fills `first` with the first difference in network order of the
/// first such image.
uint64_t count_wrong_codes(const program::Program& program, const Images& images, const Json& examined,
                           Isa isa, Json& first) {
  if (examined.empty()) return 0;
  train::ExactEvaluator exact(program);
  const auto ids = code_tensors(program);
  uint64_t wrong = 0;
  for (const Json& entry : examined) {
    const auto image = entry.at("image").get<size_t>();
    const auto expected = exact_codes(exact, images.batch(image, image + 1));
    for (size_t t = 0; t < ids.size(); ++t) {
      const auto found = entry.at("codes").at(t).get<std::vector<uint8_t>>();
      const auto& want = expected.at(ids[t]);
      for (size_t i = 0; i < want.size(); ++i) {
        if (i < found.size() && found[i] == want[i]) continue;
        ++wrong;
        if (!first.is_null()) continue;
        for (const program::Op& op : program.ops) {
          if (std::find(op.outputs.begin(), op.outputs.end(), ids[t]) == op.outputs.end()) continue;
          first = {{"isa", to_string(isa)}, {"image", image},
                   {"layer", op.name},      {"element", i},
                   {"training", want[i]},   {"runtime", i < found.size() ? Json(found[i]) : Json()}};
        }
      }
    }
  }
  return wrong;
}

void run_verify(const VerifyOptions& options) {
  catch_interrupts();
  prepare_torch("cpu", options.machine);
  const bool is_job = std::filesystem::is_directory(options.model);
  const JobFolder folder{options.model};
  const std::string model = is_job ? folder.model().string() : options.model;
  program::Program program;
  if (is_job) {
    const QuantizedNetwork trained = read_trained(folder);
    program = compile::lower(trained.graph, plan::read_plan(folder.plan()), trained.quantizers);
  } else {
    program = format::read(model);
  }
  std::vector<Isa> isas = available_isas();
  if (!options.machine.isa.empty()) isas = {options.machine.resolved_isa()};
  const Images images = load_images(options, program);
  const std::string side_file =
      (std::filesystem::temp_directory_path() / fmt::format("bitstrata-verify-{}", ::getpid())).string();
  struct Cleanup {
    std::string path;
    ~Cleanup() {
      std::error_code ignored;
      std::filesystem::remove(path, ignored);
    }
  } cleanup{side_file};
  write_side(side_file, training_side(options, program, images));
  Json first, per_isa = Json::array();
  uint64_t wrong_predictions = 0, wrong_codes = 0;
  for (Isa isa : isas) {
    const Json result = runtime_side_in_process(options, model, isa, side_file);
    const auto predictions = result.at("wrong_predictions").get<uint64_t>();
    const uint64_t codes = count_wrong_codes(program, images, result.at("examined"), isa, first);
    wrong_predictions += predictions;
    wrong_codes += codes;
    per_isa.push_back({{"isa", to_string(isa)},
                       {"mismatched_predictions", predictions},
                       {"mismatched_images", result.at("wrong_images")},
                       {"mismatched_codes", codes},
                       {"kernels", result.at("kernels")}});
    if (!options.output.json) {
      write_stdout(fmt::format("{:<7} {} images, {} mismatched predictions, {} mismatched codes\n",
                               to_string(isa), images.indices.size(), predictions, codes));
    }
  }
  if (options.output.json) {
    write_json({{"images", images.indices.size()},
                {"mismatched_predictions", wrong_predictions},
                {"mismatched_codes", wrong_codes},
                {"first_difference", first},
                {"isas", per_isa}});
  }
  if (wrong_predictions + wrong_codes > 0) {
    fail(ErrorCode::kJobFailed,
         "verify: {} differs from the training arithmetic: {} predictions and {} codes; first: {}", model,
         wrong_predictions, wrong_codes, first.dump());
  }
}

}  // namespace

void add_verify(CLI::App& app) {
  auto options = std::make_shared<VerifyOptions>();
  CLI::App& command = *app.add_subcommand("verify", train_command_description("verify"));
  command.add_option("model", options->model, "Folder of a finished job, or a .bst")
      ->type_name("DIR|MODEL.bst")
      ->required();
  command.add_option("--images", options->images, "Compare this many test images (default: all)");
  add_data_options(command, options->data);
  add_machine_options(command, options->machine);
  add_output_options(command, options->output);
  command.footer(examples({"bitstrata verify job --data digits",
                           "bitstrata verify job/model.bst --data digits --images 100 --isa scalar"}));
  command.callback([options] { run_verify(*options); });

  auto runtime = std::make_shared<VerifyOptions>();
  CLI::App& hidden = *app.add_subcommand("verify-runtime", "One instruction set of verify")->group("");
  hidden.add_option("model", runtime->model)->required();
  hidden.add_option("--images", runtime->images);
  hidden.add_option("--side", runtime->side_file)->required();
  hidden.add_option("--result", runtime->result_file)->required();
  add_data_options(hidden, runtime->data);
  add_machine_options(hidden, runtime->machine);
  add_output_options(hidden, runtime->output);
  hidden.callback([runtime] {
    catch_interrupts();
    run_runtime_side(*runtime);
  });
}

}  // namespace bitstrata::cli
