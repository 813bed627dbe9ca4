#include <algorithm>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>

#include "common/interrupt.h"
#include "common/progress.h"
#include "compile/quantizers_json.h"
#include "core/error.h"
#include "core/file.h"
#include "kernel_notes.h"
#include "onnx/export.h"
#include "searcher.h"
#include "stages.h"
#include "train/checkpoint.h"

namespace bitstrata::cli {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

/// Peak learning rate of weights in a search: that of fine-tuning at about 3 bits.
constexpr double kSearchRate = 0.005;

/// A search with everything it works on. Its parts refer to each other, so it stays where it is.
class RunningSearch {
 public:
  RunningSearch(Job& job, const Workbench& bench, const graph::Graph& graph)
      : job_(job),
        setting_(make_setting(job, bench, graph)),
        measure_(setting_),
        archive_(setting_.space,
                 setting_.space.max_drop ? std::optional(measure_.float_score()) : std::nullopt) {
    searcher_ = make_searcher(job.options().search, measure_, float_network(bench));
  }
  RunningSearch(const RunningSearch&) = delete;
  RunningSearch& operator=(const RunningSearch&) = delete;

  void run();
  plan::Plan plan() const;
  bool limits_met() const { return archive_.best() && setting_.space.feasible(archive_.best()->assignment); }

 private:
  static evaluators::Setting make_setting(Job& job, const Workbench& bench, const graph::Graph& graph);
  void restore();
  void save();
  void write_results();
  void keep_trained_network();

  Job& job_;
  evaluators::Setting setting_;
  evaluators::Measure measure_;
  search::Archive archive_;
  std::unique_ptr<Searcher> searcher_;
  std::string written_;  ///< archive text of the files on disk
  Clock::time_point start_ = Clock::now();
  double earlier_seconds_ = 0;
};

evaluators::Setting RunningSearch::make_setting(Job& job, const Workbench& bench, const graph::Graph& graph) {
  const JobOptions& options = job.options();
  evaluators::Setting setting;
  setting.graph = graph;
  const std::optional<search::LatencyTable> latency = latency_stage(job, bench);
  if (latency) {
    if (const auto note = note_on_speed(*latency)) job.log(*note);
  }
  setting.space = make_space(options, graph, latency);
  setting.dataset = &*bench.dataset;
  setting.normalization = bench.normalization;
  setting.holdout = bench.holdout;
  setting.device = bench.device;
  setting.policy = quant::parse_policy(options.policy);
  setting.per_channel = per_channel(options);
  setting.calibration = quant::parse_calibration(options.calibration);
  setting.calibration_images = options.calibration_images;
  train::TrainOptions defaults;
  defaults.distill_weight = 0.5;
  defaults.learning_rate = kSearchRate;
  setting.training = resolve_training(options.training, defaults, *bench.dataset, options.seed);
  if (options.search.learning_rate) setting.training.learning_rate = *options.search.learning_rate;
  setting.seed = options.seed;
  return setting;
}

plan::Plan RunningSearch::plan() const {
  plan::Plan plan = measure_.plan_of(archive_.best()->assignment);
  plan.method = job_.options().search.method;
  plan.targets = job_.options().search.targets;
  const std::vector<double> sensitivity = searcher_->method().sensitivity();
  for (size_t l = 0; l < sensitivity.size(); ++l)
    plan.sensitivity[setting_.space.layers[l].name] = sensitivity[l];
  return plan;
}

/// plan.json and pareto.json, when they have changed.
void RunningSearch::write_results() {
  if (!archive_.best()) return;
  std::string now = archive_.to_text();
  if (now == written_) return;
  written_ = std::move(now);
  Json points = Json::array();
  for (const search::Found& found : archive_.pareto()) {
    const plan::Plan plan = measure_.plan_of(found.assignment);
    const plan::Figures sum = plan::figures(setting_.graph, plan);
    Json point{{"accuracy", found.score.accuracy},
               {"loss", found.score.loss},
               {"how", found.how},
               {"weight_bytes", sum.weight_bytes},
               {"compression", sum.compression},
               {"avg_weight_bits", sum.avg_weight_bits},
               {"bitops", sum.bitops}};
    if (setting_.space.has_latency())
      point["latency_ms"] = setting_.space.cost(search::CostKind::kLatencyMs, found.assignment);
    Json& layers = point["layers"] = Json::array();
    for (const plan::LayerPlan& layer : plan.layers)
      layers.push_back({{"name", layer.name},
                        {"weight_bits", layer.weight_bits},
                        {"activation_bits", layer.activation_bits}});
    points.push_back(point);
  }
  write_file_atomically(
      job_.folder().pareto(),
      std::string_view(Json{{"method", job_.options().search.method}, {"points", points}}.dump(1) + "\n"));
  const plan::Plan best = plan();
  write_file_atomically(job_.folder().plan(),
                        std::string_view(plan::to_json(best, plan::figures(setting_.graph, best))));
}

/// Three parts, each behind its length: the evaluator's state is binary.
void RunningSearch::save() {
  std::string payload;
  for (const std::string& part :
       {archive_.to_text(), searcher_->method().save(), searcher_->evaluator().save()}) {
    payload += fmt::format("{}\n", part.size()) + part;
  }
  train::write_checkpoint(job_.folder().search(), payload);
  job_.progress().search_seconds =
      earlier_seconds_ + std::chrono::duration<double>(Clock::now() - start_).count();
  job_.progress().search_epochs = searcher_->epochs();
  job_.save_progress();
}

void RunningSearch::restore() {
  const std::string payload = train::read_checkpoint(job_.folder().search());
  size_t at = 0;
  const auto next = [&]() -> std::string {
    const size_t end = payload.find('\n', at);
    size_t size = 0;
    const char* first = payload.data() + at;
    if (end == std::string::npos || std::from_chars(first, payload.data() + end, size).ec != std::errc{} ||
        size > payload.size() - end - 1) {
      fail(ErrorCode::kCorruptFile, "{}: not a search checkpoint; delete it to search again",
           job_.folder().search().string());
    }
    at = end + 1 + size;
    return payload.substr(end + 1, size);
  };
  archive_.from_text(next());
  searcher_->method().restore(next());
  searcher_->evaluator().restore(next());
  earlier_seconds_ = job_.progress().search_seconds;
  const auto status = searcher_->method().status();
  job_.log(fmt::format("resuming the search at {} of {}", status.done, status.expected));
}

/// At every new best, because the search trains on at other bits.
void RunningSearch::keep_trained_network() {
  const train::Network* trained = searcher_->trained();
  if (trained == nullptr || job_.options().from_float) return;
  std::filesystem::remove(job_.folder().searched_network());
  if (trained->plan().layers != plan().layers) return;
  write_file_atomically(job_.folder().searched_quantizers(),
                        std::string_view(compile::to_json(trained->quantizers())));
  onnx::export_float(trained->to_graph(), job_.folder().searched_network());
}

void RunningSearch::run() {
  if (job_.options().resume && std::filesystem::exists(job_.folder().search())) restore();
  search::Method& method = searcher_->method();
  auto last_save = Clock::now();
  Progress progress(std::string("search ") + method.name(),
                    static_cast<uint64_t>(std::max<int64_t>(1, method.status().expected)), "steps",
                    job_.options().output.quiet);
  // With training to follow, the search leaves it half of the time.
  const double share = job_.options().training.epochs.value_or(1) > 0 ? 0.5 : 1;
  while (!method.finished()) {
    const auto best = archive_.best();
    method.step(archive_);
    const bool new_best = archive_.best() && (!best || best->assignment != archive_.best()->assignment ||
                                              best->how != archive_.best()->how);
    if (new_best) {
      const search::Found& found = *archive_.best();
      keep_trained_network();
      job_.log(fmt::format("best so far: {:.2f} % held-out, {}, {}", 100 * found.score.accuracy,
                           describe(plan::figures(setting_.graph, plan())), found.how));
    }
    const auto status = method.status();
    progress.update(static_cast<uint64_t>(std::min(status.done, status.expected)), status.text);
    const bool out_of_time = archive_.best() && job_.out_of_time(share);
    // Before plan.json, so that a job killed now never goes back to a worse plan.
    if (new_best || interrupted() || out_of_time ||
        std::chrono::duration<double>(Clock::now() - last_save).count() >
            job_.options().training.checkpoint_seconds) {
      save();
      last_save = Clock::now();
    }
    write_results();
    if (interrupted()) fail(ErrorCode::kInterrupted, "interrupted; {}", job_.resume_hint());
    if (out_of_time) {
      job_.log("the time budget ends the search early");
      break;
    }
  }
  save();
  write_results();
}

}  // namespace

plan::Plan search_stage(Job& job, const Workbench& bench, const graph::Graph& graph) {
  const JobOptions& options = job.options();
  const auto read = [&](const std::filesystem::path& path) {
    plan::Plan plan = plan::read_plan(path);
    plan::check_plan(graph, plan);
    return plan;
  };
  if (!options.plan.empty()) {
    const plan::Plan plan = read(options.plan);
    write_file_atomically(job.folder().plan(),
                          std::string_view(plan::to_json(plan, plan::figures(graph, plan))));
    return plan;
  }
  if (options.resume && job.progress().search_done && std::filesystem::exists(job.folder().plan()))
    return read(job.folder().plan());
  RunningSearch search(job, bench, graph);
  search.run();
  const plan::Plan plan = search.plan();
  const plan::Figures sum = plan::figures(graph, plan);
  if (!search.limits_met()) {
    fail(ErrorCode::kJobFailed,
         "no plan of method {} meets the targets; the nearest, {} has {}; relax the targets or allow fewer "
         "--bits",
         options.search.method, job.folder().plan().string(), describe(sum));
  }
  job.progress().search_done = true;
  job.save_progress();
  job.log("plan: " + describe(sum));
  return plan;
}

}  // namespace bitstrata::cli
