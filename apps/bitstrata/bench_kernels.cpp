#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "bench.h"
#include "common/progress.h"
#include "core/error.h"
#include "core/random.h"
#include "kernels/conv.h"
#include "measure.h"
#include "quant/policy.h"

namespace bitstrata::cli {
namespace {

constexpr double kSeconds = 0.05;
constexpr size_t kLeastRuns = 5;

struct Shape {
  int ic, oc, extent, kernel;
};
/// The stages of ResNet-20 on 32x32 images and of ResNet-18 on 224x224 images, and a fully connected layer.
constexpr Shape kShapes[] = {{16, 16, 32, 3}, {32, 32, 16, 3},   {64, 64, 8, 3},
                             {64, 64, 56, 3}, {256, 256, 14, 3}, {512, 1000, 1, 1}};
constexpr int kBits[] = {1, 2, 3, 4, 8};

struct Row {
  kernels::ConvProblem problem;
  std::string kernel, family;
  double ms = 0, gmacs_per_second = 0;
};

kernels::ConvProblem make_problem(const Shape& shape, int bits, int batch, int threads) {
  kernels::ConvProblem problem;
  problem.max_batch = batch;
  problem.max_threads = threads;
  problem.ic = shape.ic;
  problem.oc = shape.oc;
  problem.ih = problem.iw = problem.oh = problem.ow = shape.extent;
  problem.window.kernel_h = problem.window.kernel_w = shape.kernel;
  const int pad = shape.kernel / 2;
  problem.window.pad_top = problem.window.pad_left = problem.window.pad_bottom = problem.window.pad_right =
      pad;
  problem.w_bits = problem.a_bits = bits;
  problem.grid = quant::grid_of(quant::Policy::kLsq, bits);
  return problem;
}

/// Memory aligned as kernels ask for.
class Aligned {
 public:
  explicit Aligned(size_t bytes)
      : memory_(::operator new (std::max<size_t>(bytes, 1), std::align_val_t{64})) {}
  ~Aligned() { ::operator delete (memory_, std::align_val_t{64}); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  template <typename T>
  T* as() const noexcept {
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_;
};

std::vector<uint8_t> random_codes(size_t count, int bits, uint64_t stream) {
  Random random(0, stream);
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(uint64_t{1} << bits));
  return codes;
}

Row measure(const kernels::KernelEntry& entry, const kernels::ConvProblem& problem, int batch, Isa isa,
            int threads) {
  const auto n = static_cast<size_t>(batch);
  const auto pixels = static_cast<size_t>(problem.oh) * static_cast<size_t>(problem.ow) * n;
  const auto weights = random_codes(
      static_cast<size_t>(problem.oc) * static_cast<size_t>(problem.reduction()), problem.w_bits, 1);
  const auto codes = random_codes(
      n * static_cast<size_t>(problem.ic) * static_cast<size_t>(problem.ih * problem.iw), problem.a_bits, 2);
  const auto kernel = entry.make(problem, weights, isa);
  const Aligned src(codes.size()), acc(pixels * static_cast<size_t>(problem.oc) * sizeof(int32_t)),
      scratch(kernel->scratch_bytes(batch));
  std::memcpy(src.as<uint8_t>(), codes.data(), codes.size());

  const auto run = [&] {
    kernel->run(src.as<uint8_t>(), batch, acc.as<int32_t>(), scratch.as<void>(), threads);
  };
  const double ms = quantile(measure_ms(run, kSeconds, kLeastRuns), 0.5);
  const double macs = static_cast<double>(pixels) * problem.oc * problem.reduction();
  return {problem, entry.name, kernels::to_string(entry.family), ms, macs / ms / 1e6};
}

bool can_run(const kernels::KernelEntry& entry, Isa cap) {
  return entry.isa <= cap && std::ranges::count(available_isas(), entry.isa) > 0;
}

std::vector<Row> measure_all(int batch, Isa isa, int threads, bool quiet) {
  std::vector<Row> rows;
  Progress progress("bench", std::size(kShapes) * std::size(kBits), "problems", quiet);
  uint64_t done = 0;
  for (const Shape& shape : kShapes) {
    for (int bits : kBits) {
      const auto problem = make_problem(shape, bits, batch, threads);
      for (const auto& entry : kernels::conv_kernels()) {
        if (entry.family != kernels::Family::kReference && can_run(entry, isa) &&
            entry.refuses(problem, isa).empty()) {
          rows.push_back(measure(entry, problem, batch, isa, threads));
        }
      }
      progress.update(++done);
    }
  }
  progress.finish();
  return rows;
}

}  // namespace

void bench_kernels(const MachineOptions& machine, int batch, const OutputOptions& output) {
  const Isa isa = machine.resolved_isa();
  const int threads = machine.resolved_threads();
  const auto rows = measure_all(batch, isa, threads, output.quiet);
  if (output.json) {
    auto kernels = nlohmann::ordered_json::array();
    for (const Row& row : rows) {
      kernels.push_back({{"kernel", row.kernel},
                         {"family", row.family},
                         {"ic", row.problem.ic},
                         {"oc", row.problem.oc},
                         {"extent", row.problem.ih},
                         {"window", row.problem.window.kernel_h},
                         {"w_bits", row.problem.w_bits},
                         {"a_bits", row.problem.a_bits},
                         {"ms", row.ms},
                         {"gmacs_per_second", row.gmacs_per_second}});
    }
    write_json({{"threads", threads}, {"isa", to_string(isa)}, {"batch", batch}, {"kernels", kernels}});
    return;
  }
  TextTable table({"convolution", ">w bits", ">a bits", "kernel", ">ms", ">GMAC/s"});
  for (const Row& row : rows) {
    const auto& p = row.problem;
    table.add(
        {fmt::format("{}x{}x{} to {}, {}x{}", p.ic, p.ih, p.iw, p.oc, p.window.kernel_h, p.window.kernel_w),
         std::to_string(p.w_bits), std::to_string(p.a_bits), row.kernel, fmt::format("{:.4f}", row.ms),
         fmt::format("{:.2f}", row.gmacs_per_second)});
  }
  write_stdout(table.to_string());
  write_stdout(fmt::format("\nbatch {}, {} threads, {}\n", batch, threads, to_string(isa)));
}

}  // namespace bitstrata::cli
