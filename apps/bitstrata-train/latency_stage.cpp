#include <algorithm>

#include "child.h"
#include "common/host.h"
#include "core/error.h"
#include "plan/latency_table.h"
#include "stages.h"

namespace bitstrata::cli {
namespace {

bool needs_latency(const SearchArguments& search) {
  return std::any_of(search.targets.begin(), search.targets.end(), [](const std::string& text) {
    const auto kind = plan::parse_target(text).kind;
    return kind == plan::Target::Kind::kLatencyMs || kind == plan::Target::Kind::kLatencyRatio;
  });
}

/// One thread and one image, whatever the job itself trains with.
void measure(Job& job) {
  const auto bits = fmt::format("{}", fmt::join(job.options().search.bits, ","));
  job.log("measuring the latency of every layer on this machine");
  const int status = run_child(
      light_executable(),
      {"profile", job.options().model, "--bits", bits.find('8') == std::string::npos ? bits + ",8" : bits,
       "--policy", job.options().policy, "--threads", "1", "--out", job.folder().latency().string()});
  if (status != 0)
    fail(ErrorCode::kJobFailed, "measuring latencies failed with status {}; its message is above", status);
}

}  // namespace

std::optional<search::LatencyTable> latency_stage(Job& job, const Workbench& bench) {
  const SearchArguments& search = job.options().search;
  if (search.latency.empty() && !needs_latency(search)) return std::nullopt;
  const std::filesystem::path path =
      search.latency.empty() ? job.folder().latency() : std::filesystem::path(search.latency);
  if (search.latency.empty() && !std::filesystem::exists(path)) measure(job);
  const plan::LatencyTable table = plan::read_latency_table(path);
  plan::Machine here = table.machine;
  here.cpu = cpu_name();
  plan::check_machine(table, here, path.string());
  const quant::Policy policy = quant::parse_policy(job.options().policy);
  if (table.policy != policy) {
    fail(ErrorCode::kBadInput,
         "{}: it was measured with policy {}, found --policy {}; measure again with 'bitstrata profile "
         "--policy {}'",
         path.string(), quant::to_string(table.policy), quant::to_string(policy), quant::to_string(policy));
  }
  std::vector<int> bits = search.bits;
  if (std::find(bits.begin(), bits.end(), 8) == bits.end())
    bits.push_back(8);  // latency=0.5x is relative to 8x8
  search::LatencyTable result;
  for (const plan::LayerLatency& entry : plan::layer_latencies(bench.graph, table, bits, bits)) {
    result.entries.push_back({entry.layer, entry.weight_bits, entry.activation_bits, entry.ms});
  }
  result.fixed_ms = table.fixed_us.value_or(0) / 1000;
  return result;
}

}  // namespace bitstrata::cli
