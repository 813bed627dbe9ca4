#include "report_data.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "common/host.h"
#include "common/main.h"
#include "common/model.h"
#include "common/settings.h"
#include "core/error.h"
#include "onnx/import.h"
#include "plan/latency_table.h"
#include "plan/plan.h"
#include "problem.h"
#include "report_fields.h"
#include "report_targets.h"
#include "runtime/session.h"

namespace bitstrata::cli {
namespace {

namespace fs = std::filesystem;

/// The files of a job that a report is made of.
struct JobFiles {
  fs::path root;
  std::optional<Json> job, run, progress, pareto, plan_json;
  std::optional<plan::Plan> plan;
  std::optional<plan::LatencyTable> latency;

  explicit JobFiles(const fs::path& folder) : root(folder) {
    job = read_json_file(root / "checkpoint/job.json");
    run = read_json_file(root / "run.json");
    progress = read_json_file(root / "checkpoint/progress.json");
    pareto = read_json_file(root / "pareto.json");
    plan_json = read_json_file(root / "plan.json");
    if (plan_json) plan = plan::read_plan(root / "plan.json");
    if (fs::exists(latency_path())) latency = plan::read_latency_table(latency_path());
  }

  bool has_model() const { return fs::exists(root / "model.bst"); }
  bool empty() const { return !job && !run && !pareto && !plan && !has_model(); }

 private:
  /// The job's own table, or the one that it was given.
  fs::path latency_path() const {
    if (const auto own = root / "checkpoint/latency.json"; fs::exists(own)) return own;
    return job && job->is_object() && job->contains("latency") && job->at("latency").is_string()
               ? fs::path(job->at("latency").get<std::string>())
               : fs::path();
  }
};

/// Predicted milliseconds of a layer that the table's own network has.
std::optional<double> layer_ms(const std::optional<plan::LatencyTable>& table, const std::string& layer,
                               int weight_bits, int activation_bits) {
  if (!table || table->network.empty()) return std::nullopt;
  for (const auto& shape : table->shapes) {
    if (std::ranges::find(shape.layers, layer) == shape.layers.end()) continue;
    for (const auto& entry : shape.entries) {
      if (entry.weight_bits == weight_bits && entry.activation_bits == activation_bits)
        return entry.us / 1000;
    }
  }
  return std::nullopt;
}

/// Predicted milliseconds of the network under a plan.
std::optional<double> network_ms(const JobFiles& files, const plan::Plan& plan) {
  if (!files.latency) return std::nullopt;
  double sum = files.latency->fixed_us.value_or(0) / 1000;
  for (const plan::LayerPlan& layer : plan.layers) {
    const auto ms = layer_ms(files.latency, layer.name, layer.weight_bits, layer.activation_bits);
    if (!ms) return std::nullopt;
    sum += *ms;
  }
  return sum;
}

/// The plan with every layer at 8 bits, its input too.
plan::Plan at_eight_bits(plan::Plan plan) {
  for (plan::LayerPlan& layer : plan.layers) layer.weight_bits = layer.activation_bits = 8;
  return plan;
}

/// What model.bst says of a layer with weights.
struct PackedLayer {
  std::string name;
  OpBits bits;
  Json figures;
};

std::vector<PackedLayer> packed_layers(const JobFiles& files, Json& out) {
  std::vector<PackedLayer> layers;
  if (!files.has_model()) return layers;
  NetworkFile file = load_network(files.root / "model.bst");
  const auto model = runtime::Model::prepare(std::move(file.program), MachineOptions{}.runtime_options(1));
  const program::Program& program = model->program();
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const program::Op& op = program.ops[i];
    if (weight_elems(program, op) == 0) continue;
    layers.push_back({op.name,
                      op_bits(program, op),
                      {{"macs", program::macs(program, op)},
                       {"weights", weight_elems(program, op)},
                       {"weight_bytes", weight_bytes(op)},
                       {"kernel", model->kernel_name(i)}}});
  }
  out["isa"] = to_string(model->options().isa);
  out["model_bytes"] = file.file_bytes;
  return layers;
}

Json layer_json(const std::string& name, int weight_bits, int activation_bits) {
  return {{"name", name}, {"weight_bits", weight_bits}, {"activation_bits", activation_bits}};
}

/// One entry per layer of the plan, or of model.bst where there is no plan.
void add_layers(const JobFiles& files, Json& out) {
  const std::vector<PackedLayer> packed = packed_layers(files, out);
  Json& layers = out["layers"] = Json::array();
  if (!files.plan) {
    for (const PackedLayer& layer : packed) {
      layers.push_back(layer_json(layer.name, layer.bits.w_bits, layer.bits.a_bits));
      layers.back().update(layer.figures);
    }
    return;
  }
  for (const plan::LayerPlan& layer : files.plan->layers) {
    Json entry = layer_json(layer.name, layer.is_float() ? 32 : layer.weight_bits,
                            layer.is_float() ? 32 : layer.activation_bits);
    const auto sensitivity = files.plan->sensitivity.find(layer.name);
    if (sensitivity != files.plan->sensitivity.end()) entry["sensitivity"] = sensitivity->second;
    const auto same = std::ranges::find(packed, layer.name, &PackedLayer::name);
    if (same != packed.end()) entry.update(same->figures);
    if (const auto ms = layer_ms(files.latency, layer.name, layer.weight_bits, layer.activation_bits))
      entry["ms"] = *ms;
    layers.push_back(entry);
  }
}

void add_pareto(const JobFiles& files, Json& out) {
  Json& points = out["points"] = Json::array();
  if (!files.pareto) return;
  const std::string where = (files.root / "pareto.json").string();
  for (const Json& element : Fields(*files.pareto, where).list("points")) {
    const Fields point(element, fmt::format("{}: point {}", where, points.size()));
    Json entry{{"how", point.text("how")}, {"layers", Json::array()}};
    point.copy_numbers(entry, {"accuracy", "weight_bytes", "compression", "avg_weight_bits", "bitops"},
                       {"latency_ms"});
    bool chosen = files.plan && files.plan->layers.size() == point.list("layers").size();
    for (const Json& each : point.list("layers")) {
      const Fields layer(each, point.where() + ": layer");
      Json bits{{"name", layer.text("name")}};
      layer.copy_numbers(bits, {"weight_bits", "activation_bits"});
      if (chosen) {
        const plan::LayerPlan& same = files.plan->layers[entry["layers"].size()];
        chosen = same.name == bits["name"] && same.weight_bits == bits["weight_bits"] &&
                 same.activation_bits == bits["activation_bits"];
      }
      entry["layers"].push_back(bits);
    }
    entry["chosen"] = chosen;
    points.push_back(entry);
  }
}

void add_epochs(const JobFiles& files, Json& out) {
  Json& epochs = out["epochs"] = Json::array();
  const bool done = files.run.has_value();
  const std::optional<Json>& source = done ? files.run : files.progress;
  if (!source) return;
  const std::string where = (files.root / (done ? "run.json" : "checkpoint/progress.json")).string();
  for (const Json& element : Fields(*source, where).list("epochs")) {
    Json& epoch = epochs.emplace_back(Json::object());
    Fields(element, where + ": epoch")
        .copy_numbers(epoch, {"epoch", "loss", "train_accuracy"}, {"holdout_accuracy"});
  }
}

/// The figures of run.json, or of plan.json while the job is not done.
void add_figures(const JobFiles& files, Json& out) {
  if (files.run) {
    const Fields run(*files.run, (files.root / "run.json").string());
    Json& figures = out["run"] = Json::object();
    run.copy_numbers(figures,
                     {"float_accuracy", "accuracy", "compression", "size_bytes", "weight_bytes",
                      "float_weight_bytes", "avg_weight_bits", "avg_activation_bits", "bitops", "seconds"},
                     {"search_seconds", "search_epochs", "peak_mib", "seed", "threads"});
    for (const char* key : {"method", "policy", "version"}) figures[key] = run.text(key);
    if (run.has("cpu")) figures["cpu"] = run.text("cpu");
    return;
  }
  if (files.plan_json && files.plan_json->contains("figures")) {
    const Fields sum(files.plan_json->at("figures"), (files.root / "plan.json").string() + ": figures");
    sum.copy_numbers(out["figures"] = Json::object(), {"weights", "weight_bytes", "compression",
                                                       "avg_weight_bits", "avg_activation_bits", "bitops"});
  }
  if (files.progress) {
    const Fields progress(*files.progress, (files.root / "checkpoint/progress.json").string());
    progress.copy_numbers(out["progress"] = Json::object(), {"float_accuracy", "seconds", "search_seconds"});
  }
}

std::optional<double> figure(const Json& out, const char* key) {
  for (const char* part : {"run", "figures"}) {
    if (out.contains(part) && out.at(part).contains(key)) return out.at(part).at(key).get<double>();
  }
  return std::nullopt;
}

void add_targets(const JobFiles& files, Json& out) {
  // An insertion into an ordered object moves the values that it has.
  out["targets"] = Json::array();
  if (!files.plan) return;
  const Reached reached{figure(out, "float_accuracy"),  figure(out, "accuracy"),
                        figure(out, "weight_bytes"),    figure(out, "compression"),
                        figure(out, "avg_weight_bits"), figure(out, "bitops"),
                        network_ms(files, *files.plan), network_ms(files, at_eight_bits(*files.plan))};
  if (reached.latency_ms) out["latency_ms"] = *reached.latency_ms;
  const fs::path network = files.root / "checkpoint/start.onnx";
  std::optional<graph::Graph> graph;
  for (const std::string& text : files.plan->targets) {
    if (!graph && plan::parse_target(text).kind == plan::Target::Kind::kUniformBitOps && fs::exists(network))
      graph = onnx::import_file(network);
    out["targets"].push_back(judge_target(text, reached, graph ? &*graph : nullptr));
  }
}

bool same_bits(const plan::Plan& a, const plan::Plan& b) {
  return std::ranges::equal(a.layers, b.layers, [](const plan::LayerPlan& x, const plan::LayerPlan& y) {
    return x.weight_bits == y.weight_bits && x.activation_bits == y.activation_bits;
  });
}

/// The plan beside float, 8 bits everywhere, and everywhere the whole bits nearest to its averages. Accuracy
/// is known only of what was measured; the rest follows from the plans.
void add_widths(const JobFiles& files, Json& out) {
  Json& rows = out["widths"] = Json::array();
  const fs::path network = files.root / "checkpoint/start.onnx";
  if (!files.plan || !fs::exists(network)) return;
  const graph::Graph graph = onnx::import_file(network);
  plan::check_plan(graph, *files.plan);
  const auto add = [&](const std::string& name, const plan::Plan& plan, std::optional<double> accuracy) {
    const plan::Figures sum = plan::figures(graph, plan);
    Json& row = rows.emplace_back(Json{{"name", name},
                                       {"weight_bytes", sum.weight_bytes},
                                       {"compression", sum.compression},
                                       {"avg_weight_bits", sum.avg_weight_bits},
                                       {"avg_activation_bits", sum.avg_activation_bits},
                                       {"bitops", sum.bitops}});
    if (accuracy) row["accuracy"] = *accuracy;
    if (const auto ms = network_ms(files, plan)) row["latency_ms"] = *ms;
  };
  const auto uniform = [&](int weight_bits, int activation_bits) {
    return plan::uniform_plan(graph, weight_bits, activation_bits, quant::Policy::kLsq, false);
  };
  const auto add_uniform = [&](int weight_bits, int activation_bits) {
    const plan::Plan plan = uniform(weight_bits, activation_bits);
    const char* name = weight_bits == 8 && activation_bits == 8 ? "int8" : "uniform";
    if (!same_bits(plan, *files.plan))
      add(fmt::format("{} (W{} A{})", name, weight_bits, activation_bits), plan, std::nullopt);
  };
  const auto whole = [](double bits) { return std::clamp(static_cast<int>(std::lround(bits)), 1, 8); };
  const plan::Figures own = plan::figures(graph, *files.plan);
  const int weight_bits = whole(own.avg_weight_bits), activation_bits = whole(own.avg_activation_bits);
  add("float", uniform(0, 0), figure(out, "float_accuracy"));
  add_uniform(8, 8);
  if (weight_bits < 8 || activation_bits < 8) add_uniform(weight_bits, activation_bits);
  add("this plan", *files.plan, figure(out, "accuracy"));
}

void add_origin(const JobFiles& files, Json& out) {
  if (!files.job) return;
  const Fields job(*files.job, (files.root / "checkpoint/job.json").string());
  out["title"] = fs::path(job.text("model")).stem().string();
  out["method"] = job.text("method");
  out["policy"] = job.text("policy");
  out["data"] = job.text("data");
  out["seed"] = job.number("seed");
  std::optional<int> threads;
  if (const auto known = figure(out, "threads")) threads = static_cast<int>(*known);
  out["command"] = reproducing_command(*files.job, files.root.string(), threads);
}

}  // namespace

Json read_report(const fs::path& folder) {
  if (!fs::is_directory(folder))
    fail(ErrorCode::kIo, "cannot open {}: no such folder; expected the --out of 'bitstrata compress'",
         folder.string());
  const JobFiles files(folder);
  const auto absolute = fs::weakly_canonical(folder);
  const auto name = absolute.filename().empty() ? absolute.parent_path() : absolute;
  Json out{{"folder", name.filename().string()},
           {"title", name.filename().string()},
           {"version", version()},
           {"cpu", cpu_name()},
           {"compare", read_comparison(folder)},
           {"has_job", !files.empty()}};
  if (files.empty() && out["compare"].is_null()) {
    fail(ErrorCode::kNotFound,
         "{}: found none of run.json, plan.json, pareto.json, model.bst and compare.json; expected the --out "
         "of 'bitstrata compress' or 'bitstrata compare'",
         folder.string());
  }
  add_figures(files, out);
  add_origin(files, out);
  add_layers(files, out);
  add_pareto(files, out);
  add_epochs(files, out);
  add_targets(files, out);
  add_widths(files, out);
  return out;
}

}  // namespace bitstrata::cli
