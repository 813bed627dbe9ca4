#include "runtime/kernel_times.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "core/error.h"
#include "core/file.h"
#include "runtime/session.h"
#include "tests/support/program_builder.h"
#include "tests/support/random_program.h"

namespace bitstrata::runtime {
namespace {

namespace fs = std::filesystem;

class KernelTimesTest : public ::testing::Test {
 protected:
  KernelTimesTest() : folder_(fs::temp_directory_path() / fmt::format("kernel_times_{}", getpid())) {
    fs::remove_all(folder_);
    problem_.ic = problem_.oc = 16;
    problem_.ih = problem_.iw = problem_.oh = problem_.ow = 8;
    problem_.window.kernel_h = problem_.window.kernel_w = 3;
    problem_.window.pad_top = problem_.window.pad_left = problem_.window.pad_bottom =
        problem_.window.pad_right = 1;
    problem_.w_bits = problem_.a_bits = 2;
    problem_.grid = {1, -2};
    problem_.max_threads = 1;
    codes_.assign(static_cast<size_t>(problem_.oc * problem_.reduction()), 1);
  }
  ~KernelTimesTest() override { fs::remove_all(folder_); }

  static int64_t undisturbed() { return 0; }

  fs::path folder_;
  fs::path file_ = folder_ / "deep" / "times.txt";
  kernels::ConvProblem problem_;
  std::vector<uint8_t> codes_;
};

TEST_F(KernelTimesTest, MeasuresWhatAcceptsTheProblemFastestFirst) {
  for (Isa cap : {Isa::kScalar, best_isa()}) {
    const std::vector<KernelTime> times = time_kernels(problem_, codes_, cap, false);
    ASSERT_FALSE(times.empty());
    EXPECT_TRUE(std::ranges::is_sorted(times, {}, &KernelTime::us));
    for (const KernelTime& time : times) {
      EXPECT_GT(time.us, 0);
      EXPECT_LE(time.entry->isa, cap);
      EXPECT_EQ(time.entry->refuses(problem_, cap), "");
    }
  }
  const kernels::Family only = kernels::Family::kBitplane;
  const auto entries = kernels_worth_timing(problem_, best_isa(), &only);
  const KernelTrial trial(problem_, codes_, best_isa(), true, entries);
  ASSERT_GT(trial.size(), 0u);
  for (size_t i = 0; i < trial.size(); ++i) EXPECT_EQ(trial.entry(i).family, only);
}

TEST_F(KernelTimesTest, RemembersAcrossProcesses) {
  KernelTimes first(file_, undisturbed);
  const std::vector<KernelTime> measured = first.of(problem_, codes_, best_isa(), true);
  EXPECT_EQ(first.of(problem_, codes_, best_isa(), true), measured);
  first.save();
  // Another one that was made before the file was there keeps what the first wrote.
  kernels::ConvProblem other = problem_;
  other.w_bits = 1;
  other.grid = {2, -1};
  KernelTimes second("");
  second = KernelTimes(file_, undisturbed);
  second.of(other, codes_, best_isa(), true);
  second.save();

  KernelTimes third(file_);
  const std::vector<KernelTime> remembered = third.of(problem_, codes_, best_isa(), true);
  ASSERT_EQ(remembered.size(), measured.size());
  for (size_t i = 0; i < measured.size(); ++i) {
    EXPECT_EQ(remembered[i].entry, measured[i].entry);
    EXPECT_NEAR(remembered[i].us, measured[i].us, 1e-3);
  }
}

// Times from a busy machine say too little: later processes measure again, until one is left alone or a few
// have tried.
TEST_F(KernelTimesTest, MeasuresAgainWhatWasDisturbed) {
  int64_t count = 0;
  const auto disturbed = [&count] { return count += 1'000'000; };
  const auto least = [](const std::vector<KernelTime>& times) { return times.front().us; };
  double best = 1e9;
  std::vector<KernelTime> last;
  for (int process = 0; process < 6; ++process) {
    const int64_t before = count;
    KernelTimes times(file_, disturbed);
    last = times.of(problem_, codes_, best_isa(), true);
    EXPECT_EQ(times.of(problem_, codes_, best_isa(), true), last);
    EXPECT_EQ(count > before, process < 4) << "process " << process;
    EXPECT_LE(least(last), best + 1e-3);
    best = least(last);
    times.save();
  }

  fs::remove(file_);
  KernelTimes busy(file_, disturbed);
  busy.of(problem_, codes_, best_isa(), true);
  busy.save();
  KernelTimes calm(file_, undisturbed);
  const std::vector<KernelTime> good = calm.of(problem_, codes_, best_isa(), true);
  calm.save();
  const int64_t before = count;
  KernelTimes after(file_, disturbed);
  EXPECT_NEAR(least(after.of(problem_, codes_, best_isa(), true)), least(good), 1e-3);
  EXPECT_EQ(count, before);

  // The counter of this process moves when others take its turn.
  std::atomic<bool> stop = false;
  std::vector<std::thread> others;
  for (unsigned i = 0; i < 4 * std::max(1u, std::thread::hardware_concurrency()); ++i)
    others.emplace_back([&stop] {
      while (!stop) continue;
    });
  fs::remove(file_);
  for (int i = 0;
       i < 20 && (!fs::exists(file_) || read_text_file(file_).find("disturbed") == std::string::npos); ++i) {
    fs::remove(file_);
    KernelTimes crowded(file_);
    crowded.of(problem_, codes_, best_isa(), true);
    crowded.save();
  }
  stop = true;
  for (std::thread& other : others) other.join();
  EXPECT_NE(read_text_file(file_).find("disturbed"), std::string::npos);
}

// Weights that other layers push out of the caches come from memory: slower, and measured apart.
TEST_F(KernelTimesTest, MeasuresBesideTheWeightsOfOtherLayers) {
  problem_.ic = 2048;
  problem_.oc = 1024;
  problem_.ih = problem_.iw = problem_.oh = problem_.ow = 1;
  problem_.window = {};
  problem_.w_bits = problem_.a_bits = 8;
  problem_.grid = {1, -128};
  codes_.assign(static_cast<size_t>(problem_.oc * problem_.reduction()), 1);
  KernelTimes times("");
  const std::vector<KernelTime> alone = times.of(problem_, codes_, best_isa(), true);
  const std::vector<KernelTime> beside = times.of(problem_, codes_, best_isa(), true, 200 << 20);
  EXPECT_NE(&times.of(problem_, codes_, best_isa(), true),
            &times.of(problem_, codes_, best_isa(), true, 200 << 20));
  EXPECT_EQ(times.of(problem_, codes_, best_isa(), true, 1000), alone);
  EXPECT_EQ(times.of(problem_, codes_, best_isa(), true, 100 << 20), beside);
  EXPECT_EQ(alone.size(), beside.size());
}

TEST_F(KernelTimesTest, TrustsNoDamagedFile) {
  KernelTimes times(file_, undisturbed);
  const std::vector<KernelTime> measured = times.of(problem_, codes_, best_isa(), true);
  times.save();
  const std::string good = read_text_file(file_);
  const std::string slow = measured.back().entry->name;
  // A remembered time decides: a file that says otherwise is believed as long as it is whole.
  std::string changed = good;
  const size_t bar = good.find('|');
  changed.replace(bar + 1, std::string::npos, fmt::format(" {} 0.5\n", slow));
  write_file_atomically(file_, changed);
  EXPECT_EQ(KernelTimes(file_).of(problem_, codes_, best_isa(), true).front().entry->name, slow);

  for (const std::string& text :
       {std::string(), std::string("\n\n\n"), "another heading" + changed, changed.substr(0, bar + 3),
        good.substr(0, bar) + "| no_such_kernel 0.5\n", good.substr(0, bar) + "| " + slow + " -1\n",
        good.substr(0, bar) + "| " + slow + " nan\n", std::string(100, '\0')}) {
    write_file_atomically(file_, text);
    EXPECT_EQ(KernelTimes(file_).of(problem_, codes_, best_isa(), true).size(), measured.size()) << text;
  }
}

TEST_F(KernelTimesTest, LivesWithoutAFile) {
  KernelTimes nowhere("");
  EXPECT_FALSE(nowhere.of(problem_, codes_, best_isa(), true).empty());
  nowhere.save();
  KernelTimes unwritable("/proc/no/such/folder/times.txt");
  EXPECT_FALSE(unwritable.of(problem_, codes_, best_isa(), true).empty());
  unwritable.save();
}

TEST_F(KernelTimesTest, TheEnvironmentSaysWhereTimesAreKept) {
  const auto with = [](const char* value) {
    setenv("BITSTRATA_KERNEL_TIMES", value, 1);
    return default_kernel_times();
  };
  EXPECT_EQ(with("off"), std::nullopt);
  EXPECT_EQ(with("/some/file"), fs::path("/some/file"));
  unsetenv("BITSTRATA_KERNEL_TIMES");
  setenv("XDG_CACHE_HOME", "/cache", 1);
  EXPECT_EQ(default_kernel_times()->parent_path(), "/cache/bitstrata");
}

// The choice changes the speed only.
TEST_F(KernelTimesTest, MeasuredModelsComputeTheSame) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const program::Program program = testing::random_program(seed);
    Options options;
    options.max_batch = 2;
    const auto estimated = Model::prepare(program, options);
    options.kernel_times = file_;
    const auto measured = Model::prepare(program, options);
    const auto run = [&](const std::shared_ptr<const Model>& model) {
      const auto elems = [&](program::TensorId id) {
        return 2 * static_cast<size_t>(program::elements(program.tensors[static_cast<size_t>(id)].dims));
      };
      std::vector<float> input(elems(program.input));
      for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i % 13) / 4 - 1;
      std::vector<std::vector<float>> outputs;
      std::vector<std::span<float>> spans;
      for (program::TensorId id : program.outputs) outputs.emplace_back(elems(id));
      for (auto& output : outputs) spans.emplace_back(output);
      Session(model).run(input, 2, spans);
      return outputs;
    };
    EXPECT_EQ(run(measured), run(estimated)) << seed;
    for (size_t i = 0; i < program.ops.size(); ++i) {
      EXPECT_TRUE(estimated->kernel_times(i).empty());
      if (measured->kernel_times(i).empty()) continue;
      EXPECT_EQ(measured->kernel_name(i), measured->kernel_times(i).front().entry->name);
    }
  }
}

}  // namespace
}  // namespace bitstrata::runtime
