#include "tests/report/job_folder.h"

#include <gtest/gtest.h>

#include "core/file.h"
#include "format/bst.h"
#include "onnx/export.h"
#include "tests/cli/network.h"
#include "tests/unit/graph/make_graph.h"

namespace bitstrata::testing {
namespace {

Json bits(const std::string& name, int weight_bits, int activation_bits) {
  return {{"name", name}, {"weight_bits", weight_bits}, {"activation_bits", activation_bits}};
}

Json point(const std::vector<std::string>& names, double accuracy, double weight_bytes, double bitops,
           const std::string& how, std::array<int, 4> widths) {
  return {{"accuracy", accuracy},
          {"loss", 0.3},
          {"how", how},
          {"weight_bytes", weight_bytes},
          {"compression", 15576 / weight_bytes},
          {"avg_weight_bits", weight_bytes * 8 / 3894},
          {"bitops", bitops},
          {"layers", {bits(names[0], widths[0], widths[1]), bits(names[1], widths[2], widths[3])}}};
}

/// The float network behind digits_network.
graph::Graph float_network(const std::vector<std::string>& names) {
  graph::testing::GraphMaker maker({1, 8, 8});
  graph::Conv conv = graph::testing::conv(6, 1, 3);
  conv.window.pad_top = conv.window.pad_left = conv.window.pad_bottom = conv.window.pad_right = 1;
  const auto features = maker.add("relu", graph::testing::relu(), {maker.add(names[0], conv, {0})});
  graph::Linear linear;
  linear.out = 10;
  linear.weights.assign(3840, 0.5f);
  maker.add(names[1], linear, {maker.add("flat", program::Reshape{}, {features}, {384})});
  return maker.graph;
}

}  // namespace

JobFolder::JobFolder(std::vector<std::string> names) {
  std::filesystem::create_directories(path() + "/checkpoint");
  program::Program network = digits_network();
  network.ops[1].name = names[0];
  network.ops[3].name = names[1];
  format::write(std::filesystem::path(path()) / "model.bst", network);
  onnx::export_float(float_network(names), *this / "checkpoint/start.onnx");

  Json layers = {bits(names[0], 2, 8), bits(names[1], 3, 4)};
  for (Json& layer : layers) layer.update({{"policy", "pact"}, {"per_channel", false}});
  const Json figures{{"weights", 3894},          {"weight_bytes", 1454},         {"compression", 10.7125},
                     {"avg_weight_bits", 2.987}, {"avg_activation_bits", 4.571}, {"bitops", 101376}};
  plan = {
      {"version", 1},      {"method", "pdq"},          {"targets", {"size=10x", "drop=0.5", "avg-bits=2"}},
      {"layers", layers},  {"streams", Json::array()}, {"sensitivity", {{names[0], 0.25}, {names[1], 1.5}}},
      {"figures", figures}};
  pareto = {{"method", "pdq"},
            {"points",
             {point(names, 0.97, 3894, 300000, "at most bits", {8, 8, 8, 8}),
              point(names, 0.962, 2100, 150000, "after recovery 1", {4, 8, 5, 4}),
              point(names, 0.951, 1454, 101376, "after recovery 2", {2, 8, 3, 4})}}};
  run = {{"float_accuracy", 0.98},
         {"accuracy", 0.9725},
         {"compression", 10.7125},
         {"size_bytes", 2345},
         {"weight_bytes", 1454},
         {"float_weight_bytes", 15576},
         {"avg_weight_bits", 2.987},
         {"avg_activation_bits", 4.571},
         {"bitops", 101376.0},
         {"method", "pdq"},
         {"policy", "pact"},
         {"targets", plan["targets"]},
         {"seed", 7},
         {"seconds", 12.5},
         {"search_seconds", 4.25},
         {"search_epochs", 2.0},
         {"peak_mib", 180.5},
         {"cpu", "A CPU of this test"},
         {"threads", 3},
         {"version", "0.1.0"},
         {"epochs", Json::array()}};
  for (int epoch = 1; epoch <= 4; ++epoch) {
    run["epochs"].push_back({{"epoch", epoch},
                             {"loss", 1.0 / epoch},
                             {"train_accuracy", 0.9 + 0.01 * epoch},
                             {"holdout_accuracy", 0.92 + 0.01 * epoch}});
  }
  job = {{"command", "compress"},
         {"model", "/models/my net.onnx"},
         {"plan", ""},
         {"data", "digits"},
         {"mean", Json::array()},
         {"method", "pdq"},
         {"policy", "pact"},
         {"targets", plan["targets"]},
         {"bits", {2, 3, 8}},
         {"activation_bits", 0},
         {"latency", ""},
         {"gumbel", false},
         {"keep_least", true},
         {"seed", 7},
         {"tied", false},
         {"batch", 32},
         {"search_epochs", 2}};
  write("plan.json", plan);
  write("pareto.json", pareto);
  write("run.json", run);
  write("checkpoint/job.json", job);
  write("checkpoint/progress.json", {{"float_accuracy", 0.98},
                                     {"seconds", 12.5},
                                     {"search_done", true},
                                     {"search_seconds", 4.25},
                                     {"search_epochs", 2.0},
                                     {"epochs", run["epochs"]}});
}

void JobFolder::write(const std::string& name, const Json& value) const {
  write_text(name, value.dump(1) + "\n");
}

void JobFolder::write_text(const std::string& name, const std::string& text) const {
  write_file_atomically(*this / name, std::string_view(text));
}

void JobFolder::remove(const std::string& name) const {
  std::filesystem::remove(*this / name);
}

Json JobFolder::comparison() const {
  Json other = run;
  other["accuracy"] = 0.9625;
  return {{"model", "net.onnx"},
          {"options", {"--data", "digits"}},
          {"seeds", {1, 2}},
          {"cpu", "A CPU of this test"},
          {"version", "0.1.0"},
          {"rows",
           {{{"name", "pdq"},
             {"options", {"--method", "pdq"}},
             {"accuracy_mean", 0.9675},
             {"accuracy_deviation", 0.0071},
             {"runs",
              {{{"seed", 1}, {"status", 0}, {"run", run}}, {{"seed", 2}, {"status", 0}, {"run", other}}}}},
            {{"name", "hawq"},
             {"options", {"--method", "hawq"}},
             {"accuracy_mean", 0.0},
             {"accuracy_deviation", 0.0},
             {"runs", {{{"seed", 1}, {"status", 1}, {"run", nullptr}}}}}}}};
}

std::string JobFolder::page() const {
  const Finished finished = bitstrata({"report", path()});
  EXPECT_EQ(finished.status, 0) << finished.err;
  EXPECT_EQ(finished.err, "");
  return read_text_file(*this / "report.html");
}

Json JobFolder::data_of(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t start = page.find(open), end = page.find("</script>", start);
  EXPECT_NE(start, std::string::npos);
  return Json::parse(page.substr(start + open.size(), end - start - open.size()));
}

}  // namespace bitstrata::testing
