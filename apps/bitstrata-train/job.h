#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "common/data_options.h"
#include "common/output.h"
#include "common/settings.h"
#include "data/dataset.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "quant/calibrate.h"
#include "train/torch.h"
#include "train/trainer.h"

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// How networks are trained, as given on the command line; empty values take the defaults of the command or
/// policy.
struct TrainingArguments {
  std::optional<int> epochs;
  std::optional<int> batch;
  std::optional<double> learning_rate, momentum, weight_decay, scale_rate, warmup, restart, restart_factor,
      label_smoothing, clip_norm, distill, temperature, distill_layers, average;
  std::string optimizer = "sgd";
  std::optional<int> augment_pad;
  std::optional<bool> flip;
  double checkpoint_seconds = 60;
};
void add_training_options(CLI::App& app, TrainingArguments& arguments);
/// How training follows the float network.
void add_distillation_options(CLI::App& app, TrainingArguments& arguments);

/// How bits are searched, as given on the command line; empty values take the method's defaults.
struct SearchArguments {
  std::string method;  ///< until fill_in_defaults: empty where not given
  std::vector<std::string> targets;
  std::vector<int> bits;     ///< until fill_in_defaults: empty where not given
  int activation_bits = 0;   ///< 0: searched
  std::optional<bool> tied;  ///< weights and input of a layer at the same width
  std::string latency;       ///< table of `bitstrata profile`; empty: measured when a target needs it
  std::optional<double> epochs, learning_rate;               ///< of ebs, pdq
  std::optional<double> eta, recovery_epochs, final_epochs;  ///< of ccq
  std::optional<int> drops;                                  ///< of ccq
  bool gumbel = false;                                       ///< of ebs
  std::optional<int> draws;                                  ///< of random
  std::optional<int> keep, keep_bits;                        ///< of pdq
  bool keep_least = false;                                   ///< of pdq
  std::string duals;                                         ///< of pdq: plan.json of an earlier search
};

/// Options of compress and its stages.
struct JobOptions {
  std::string model, out, plan;
  DataOptions data;
  MachineOptions machine;
  OutputOptions output;
  TrainingArguments training;
  SearchArguments search;
  std::string policy = "lsq", calibration = "mse", device = "cpu";
  std::optional<bool> per_channel;
  int calibration_images = 1024;
  uint64_t seed = kDefaultSeed;
  bool resume = false, overwrite = false;
  bool from_float = false;  ///< fine-tune from the float network even where the search has trained one
  bool all_images = false;  ///< fine-tune on the held-out images too
  std::string time_budget;  ///< of the whole job, as "90s", "30m", "2h"; empty: none
};

/// What the command line left open: --out is a folder in this one, named after the model. Without --method,
/// --bits, --plan and --target the job searches with ebs (results/README.md) for a network that needs no more
/// memory and no more BitOPs than one of 4 bits everywhere; otherwise the method is uniform where not given.
/// Candidates are 1 to 8 bits, for ccq its paper's ladder 3, 4, 6, 8.
void fill_in_defaults(JobOptions& options);

/// Where the files of a job lie.
struct JobFolder {
  std::filesystem::path root;
  std::filesystem::path plan() const { return root / "plan.json"; }
  std::filesystem::path model() const { return root / "model.bst"; }
  std::filesystem::path summary() const { return root / "run.json"; }
  std::filesystem::path report() const { return root / "report.html"; }
  std::filesystem::path log() const { return root / "log.txt"; }
  std::filesystem::path checkpoint() const { return root / "checkpoint"; }
  std::filesystem::path options() const { return checkpoint() / "job.json"; }  ///< what the job was asked for
  std::filesystem::path progress() const { return checkpoint() / "progress.json"; }  ///< figures known so far
  std::filesystem::path pareto() const { return root / "pareto.json"; }
  std::filesystem::path search() const { return checkpoint() / "search.ckpt"; }
  std::filesystem::path latency() const { return checkpoint() / "latency.json"; }
  std::filesystem::path searched_network() const {
    return checkpoint() / "searched.onnx";
  }  ///< trained by the search
  std::filesystem::path searched_quantizers() const { return checkpoint() / "searched.json"; }
  std::filesystem::path start_network() const { return checkpoint() / "start.onnx"; }
  std::filesystem::path start_quantizers() const { return checkpoint() / "start.json"; }
  std::filesystem::path training() const { return checkpoint() / "training.ckpt"; }
  std::filesystem::path network() const { return checkpoint() / "network.onnx"; }
  std::filesystem::path quantizers() const { return checkpoint() / "quantizers.json"; }
};

/// The inputs of a job in memory.
struct Workbench {
  graph::Graph graph;  ///< the float network, normalisation and class names filled in
  std::optional<data::Dataset> dataset;
  data::Normalization normalization;
  data::Holdout holdout;
  torch::Device device = torch::kCPU;
};

/// Sets LibTorch's threads and determinism and parses --device. kUnsupported when CUDA is asked for and
/// absent.
torch::Device prepare_torch(const std::string& device, const MachineOptions& machine);

/// Imports the model and loads the data for it. Errors as onnx::import_file, load_dataset and check_classes.
Workbench open_workbench(const std::string& model, const DataOptions& data, const MachineOptions& machine,
                         const std::string& device, uint64_t seed, bool need_train, bool need_test,
                         bool quiet);

/// Training options from arguments over `defaults`.
train::TrainOptions resolve_training(const TrainingArguments& arguments, train::TrainOptions defaults,
                                     const data::Dataset& dataset, uint64_t seed);

/// Seconds of "90s", "30m", "2h" or "45" (seconds). kInvalidArgument otherwise.
double parse_duration(const std::string& text);

/// Figures that stages leave for later ones, kept in progress.json so that a resumed job has them.
struct JobProgress {
  double float_accuracy = -1;  ///< on the test split; -1: not measured yet
  double seconds = 0;          ///< spent by earlier runs of this job
  struct Epoch {
    int epoch = 0;
    double loss = 0, train_accuracy = 0;
    std::optional<double> holdout_accuracy;  ///< none where no image was held out
  };
  std::vector<Epoch> epochs;
  bool search_done = false;
  double search_seconds = 0, search_epochs = 0;  ///< time of the search, and epochs of training in it
};
/// An epoch as progress.json and run.json have it.
nlohmann::ordered_json to_json(const JobProgress::Epoch& epoch);
JobProgress read_progress(const std::filesystem::path& path);
void write_progress(const std::filesystem::path& path, const JobProgress& progress);

/// One running job: its folder, its clock and its log. Holds a lock on the folder, so that two processes
/// never write to one job.
class Job {
 public:
  /// Creates the folder or, with --resume, checks that the options are those the job was started with.
  /// kInvalidArgument when the folder holds another job, kIo when it cannot be written.
  Job(const JobOptions& options, const std::string& command);
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  const JobOptions& options() const noexcept { return options_; }
  const JobFolder& folder() const noexcept { return folder_; }
  JobProgress& progress() noexcept { return progress_; }
  /// Writes progress.json with the seconds spent so far.
  void save_progress();
  double seconds() const;
  /// Whether the time budget, counted over all runs of this job, is spent to this share of it.
  bool out_of_time(double share = 1) const;
  /// A line to stderr (unless quiet) and to log.txt.
  void log(const std::string& line);
  /// What to run to go on after an interruption.
  std::string resume_hint() const;

 private:
  JobOptions options_;
  std::string command_;
  JobFolder folder_;
  JobProgress progress_;
  double earlier_seconds_ = 0, budget_seconds_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int lock_ = -1;
};

}  // namespace bitstrata::cli
