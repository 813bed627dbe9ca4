#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "child.h"
#include "commands.h"
#include "common/commands.h"
#include "common/host.h"
#include "common/interrupt.h"
#include "common/main.h"
#include "common/option_checks.h"
#include "core/error.h"
#include "core/file.h"
#include "format/bst.h"
#include "kernel_notes.h"
#include "quant/policy.h"
#include "searcher.h"
#include "stages.h"

namespace bitstrata::cli {
namespace {

using Json = nlohmann::ordered_json;

/// Catches mistakes that no single option shows before anything is created or loaded.
void check_options(const JobOptions& options) {
  if (!std::filesystem::exists(options.model))
    fail(ErrorCode::kIo, "cannot open {}: no such file; expected a float network as .onnx", options.model);
}

void add_job_options(CLI::App& app, JobOptions& o) {
  app.add_option("model", o.model, "Float network, .onnx")->type_name("MODEL")->required();
  app.add_option("--out", o.out, "Folder for the results (default: MODEL-job, in this folder)")
      ->type_name("DIR");
  add_data_options(app, o.data);
  app.add_option("--seed", o.seed, "Seed of everything random")->take_last()->capture_default_str();
  app.add_option("--device", o.device, "cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
  app.add_flag("--resume", o.resume, "Go on with the job in the folder");
  app.add_flag("--overwrite", o.overwrite, "Forget the job in the folder and start again")
      ->excludes("--resume");
  add_threads_option(app, o.machine);
  add_output_options(app, o.output);
}

void add_search_options(CLI::App& app, JobOptions& o) {
  const auto group = "Bits";
  SearchArguments& s = o.search;
  app.add_option("--method", s.method,
                 "How bits are chosen (default: uniform; ebs where no bits, target or plan is given)")
      ->type_name("METHOD")
      ->check(CLI::IsMember(method_names()))
      ->group(group);
  app.add_option("--policy", o.policy, "Quantizers of the weights and activations")
      ->type_name("POLICY")
      ->check(CLI::IsMember(names_of(quant::kAllPolicies)))
      ->capture_default_str()
      ->group(group);
  app.add_option("--target", s.targets,
                 "avg-bits=3, size=10x, size=70KB, bitops=0.4G, bitops=3x3, latency=2ms, latency=0.5x (of "
                 "8x8 bits), drop=0.5; may be repeated (default: avg-bits=4 and bitops=4x4, where neither "
                 "method, bits nor plan is given)")
      ->type_name("KIND=VALUE")
      ->check(parsed_by(plan::parse_target))
      ->group(group);
  app.add_option("--bits", s.bits, "Candidate widths (default: 1 to 8; 3,4,6,8 for ccq)")
      ->type_name("N,...")
      ->delimiter(',')
      ->check(CLI::Range(1, 8))
      ->group(group);
  app.add_option("--activation-bits", s.activation_bits, "Activation bits of every layer (default: chosen)")
      ->check(CLI::Range(1, 8))
      ->group(group);
  app.add_option("--tied", s.tied,
                 "A layer's weights and input at the same width, true or false (default: false for ebs only)")
      ->group(group);
  app.add_option("--latency", s.latency,
                 "Table of 'bitstrata profile' for latency targets (default: measured now)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--plan", o.plan, "Use the bits of this plan.json instead of searching")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--per-channel", o.per_channel,
                 "Weight scales per output channel, true or false (default: for lsq and sawb)")
      ->group(group);
  app.add_option("--calibration", o.calibration, "How the ranges that training starts from are found")
      ->type_name("HOW")
      ->check(CLI::IsMember({"minmax", "percentile", "aciq", "mse"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--calibration-images", o.calibration_images, "Training images for them")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str()
      ->group(group);
  app.add_option("--time-budget", o.time_budget, "Stop early, with the best so far: 90s, 30m, 2h")
      ->type_name("TIME")
      ->check(parsed_by(parse_duration))
      ->group(group);
  const auto search = "Search";
  app.add_option("--search-epochs", s.epochs, "ebs, pdq: epochs of the search")
      ->check(positive_number())
      ->group(search);
  app.add_option("--search-lr", s.learning_rate, "ccq, ebs, pdq: learning rate of weights in the search")
      ->check(positive_number())
      ->group(search);
  app.add_option("--eta", s.eta, "ccq: learning rate of the competition; larger is greedier")
      ->check(non_negative_number())
      ->group(search);
  app.add_option("--recovery-epochs", s.recovery_epochs, "ccq: longest recovery after each move")
      ->check(non_negative_number())
      ->group(search);
  app.add_option("--final-epochs", s.final_epochs, "ccq: recovery of the final plan")
      ->check(non_negative_number())
      ->group(search);
  app.add_option("--drops", s.drops, "ccq: layers that move before one recovery")
      ->check(CLI::Range(1, 1000))
      ->group(search);
  app.add_flag("--gumbel", s.gumbel, "ebs: Gumbel-softmax instead of softmax")->group(search);
  app.add_option("--draws", s.draws, "random: plans drawn, the best one is taken")
      ->check(CLI::Range(1, 100000))
      ->group(search);
  app.add_option("--keep", s.keep,
                 "pdq: so many most sensitive layers keep --keep-bits, the others get the fewest")
      ->check(CLI::Range(1, 100000))
      ->group(search);
  app.add_option("--keep-bits", s.keep_bits, "pdq: bits of the kept layers (default: the most)")
      ->check(CLI::Range(1, 8))
      ->group(search);
  app.add_flag("--keep-least", s.keep_least, "pdq: keep the least sensitive layers instead, as a control")
      ->group(search);
  app.add_option("--duals", s.duals, "pdq: take the duals from this plan.json instead of training for them")
      ->type_name("FILE")
      ->group(search);
  app.add_flag("--from-float", o.from_float,
               "ccq: fine-tune from the float network, not from the one that the search has trained")
      ->group(search);
}

void add_all_images_option(CLI::App& app, JobOptions& o) {
  app.add_flag("--all-images", o.all_images,
               "Fine-tune on all training images, also those held out to choose bits; nothing tells then, before the "
               "test how training goes")
      ->group("Training");
}

Json summary(Job& job, const plan::Plan& plan, const plan::Figures& sum, double float_accuracy,
             double accuracy) {
  const JobOptions& o = job.options();
  Json json{{"float_accuracy", float_accuracy},
            {"accuracy", accuracy},
            {"compression", sum.compression},
            {"size_bytes", std::filesystem::file_size(job.folder().model())},
            {"weight_bytes", sum.weight_bytes},
            {"float_weight_bytes", 4 * sum.weights},
            {"avg_weight_bits", sum.avg_weight_bits},
            {"avg_activation_bits", sum.avg_activation_bits},
            {"bitops", sum.bitops},
            {"method", plan.method},
            {"policy", o.policy},
            {"targets", plan.targets},
            {"seed", o.seed},
            {"seconds", job.seconds()},
            {"search_seconds", job.progress().search_seconds},
            {"search_epochs", job.progress().search_epochs},
            {"peak_mib", peak_memory_mib()},
            {"cpu", cpu_name()},
            {"threads", o.machine.resolved_threads()},
            {"version", version()},
            {"epochs", Json::array()}};
  for (const auto& epoch : job.progress().epochs) json["epochs"].push_back(to_json(epoch));
  return json;
}

void print(const Job& job, const Json& result) {
  if (job.options().output.json) {
    write_json(result);
    return;
  }
  TextTable table({"", ">float", ">packed"});
  table.add({"test accuracy", fmt::format("{:.2f} %", 100 * result["float_accuracy"].get<double>()),
             fmt::format("{:.2f} %", 100 * result["accuracy"].get<double>())});
  table.add({"weights", fmt::format("{} bytes", result["float_weight_bytes"].get<int64_t>()),
             fmt::format("{} bytes", result["weight_bytes"].get<int64_t>())});
  table.add({"model.bst", "", fmt::format("{} bytes", result["size_bytes"].get<int64_t>())});
  table.add({"weight bits", "32", fmt::format("{:.2f}", result["avg_weight_bits"].get<double>())});
  table.add({"activation bits", "32", fmt::format("{:.2f}", result["avg_activation_bits"].get<double>())});
  write_stdout(table.to_string());
  write_stdout(fmt::format("results in {}\n", job.folder().root.string()));
}

/// run.json of a finished job. kCorruptFile when it is not what summary() makes.
Json read_summary(const std::filesystem::path& path) {
  try {
    Json json = Json::parse(read_text_file(path));
    for (const char* key : {"float_accuracy", "accuracy", "float_weight_bytes", "weight_bytes", "size_bytes",
                            "avg_weight_bits", "avg_activation_bits"}) {
      json.at(key).get<double>();
    }
    return json;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kCorruptFile, "{}: not the summary of a job: {}; delete it to have it written again",
         path.string(), printable(error.what()));
  }
}

/// report.html, by the light executable. The job is done with or without it.
void write_report(Job& job) {
  try {
    const int status = run_child(light_executable(), {"report", job.folder().root.string()});
    if (status == 0) return;
    job.log(fmt::format("warning: no report.html: 'bitstrata report' ended with status {}", status));
  } catch (const Error& error) {
    job.log(fmt::format("warning: no report.html: {}", error.what()));
  }
}

void check_drop(const JobOptions& options, double float_accuracy, double accuracy) {
  for (const std::string& text : options.search.targets) {
    const plan::Target target = plan::parse_target(text);
    const double drop = 100 * (float_accuracy - accuracy);
    if (target.kind == plan::Target::Kind::kDrop && drop > target.value) {
      fail(ErrorCode::kJobFailed,
           "the network loses {:.2f} points of accuracy, the target {} allows {}; it is kept in {}; allow "
           "more bits or train longer",
           drop, text, target.value, options.out);
    }
  }
}

void run_compress(const JobOptions& options) {
  check_options(options);
  catch_interrupts();
  Workbench bench = open_workbench(options.model, options.data, options.machine, options.device, options.seed,
                                   true, true, options.output.quiet);
  Job job(options, "compress");
  if (options.resume && std::filesystem::exists(job.folder().summary()) &&
      std::filesystem::exists(job.folder().model())) {
    const Json done = read_summary(job.folder().summary());
    job.log("this job is done already");
    if (!std::filesystem::exists(job.folder().report())) write_report(job);
    print(job, done);
    check_drop(options, done.at("float_accuracy").get<double>(), done.at("accuracy").get<double>());
    return;
  }
  warn_of_slow_kernels(job, bench.graph);
  const double float_accuracy = float_accuracy_stage(job, bench);
  const graph::Graph graph = network_stage(job, bench);
  const plan::Plan plan = search_stage(job, bench, graph);
  const QuantizedNetwork start = start_stage(job, bench, graph, plan);
  const QuantizedNetwork trained = finetune_stage(job, bench, plan, start);
  program::Program program = compile_stage(job, plan, trained);
  const double accuracy = exact_test_accuracy(bench, std::move(program), options.output.quiet);
  const Json result = summary(job, plan, plan::figures(bench.graph, plan), float_accuracy, accuracy);
  job.save_progress();
  write_file_atomically(job.folder().summary(), std::string_view(result.dump(2) + "\n"));
  job.log(fmt::format("packed network: {:.2f} % of {} test images", 100 * accuracy,
                      bench.dataset->num_samples(data::Split::kTest)));
  write_report(job);
  print(job, result);
  check_drop(options, float_accuracy, accuracy);
}

void run_search(const JobOptions& options) {
  check_options(options);
  catch_interrupts();
  const Workbench bench = open_workbench(options.model, options.data, options.machine, options.device,
                                         options.seed, true, false, options.output.quiet);
  Job job(options, "search");
  warn_of_slow_kernels(job, bench.graph);
  search_stage(job, bench, network_stage(job, bench));
}

void run_finetune(const JobOptions& options) {
  check_options(options);
  if (options.plan.empty())
    fail(ErrorCode::kInvalidArgument, "finetune: --plan FILE is missing; 'bitstrata search' makes one");
  catch_interrupts();
  const Workbench bench = open_workbench(options.model, options.data, options.machine, options.device,
                                         options.seed, true, false, options.output.quiet);
  Job job(options, "finetune");
  warn_of_slow_kernels(job, bench.graph);
  const graph::Graph graph = network_stage(job, bench);
  const plan::Plan plan = search_stage(job, bench, graph);
  finetune_stage(job, bench, plan, start_stage(job, bench, graph, plan));
  job.log(fmt::format("trained network in {}; 'bitstrata compile {}' packs it",
                      job.folder().checkpoint().string(), job.folder().root.string()));
}

void run_compile(const std::string& root) {
  const JobFolder folder{root};
  const plan::Plan plan = plan::read_plan(folder.plan());
  const QuantizedNetwork trained = read_trained(folder);
  program::Program program = compile::lower(trained.graph, plan, trained.quantizers);
  program.metadata["method"] = plan.method;
  format::write(folder.model(), program);
  write_stdout(
      fmt::format("{}: {} bytes\n", folder.model().string(), std::filesystem::file_size(folder.model())));
}

CLI::App& add_job_command(CLI::App& app, const char* name, const std::shared_ptr<JobOptions>& options) {
  CLI::App& command = *app.add_subcommand(name, train_command_description(name));
  add_job_options(command, *options);
  return command;
}

}  // namespace

void add_compress(CLI::App& app) {
  auto compress = std::make_shared<JobOptions>();
  CLI::App& compress_command = add_job_command(app, "compress", compress);
  add_search_options(compress_command, *compress);
  add_training_options(compress_command, compress->training);
  add_distillation_options(compress_command, compress->training);
  add_all_images_option(compress_command, *compress);
  compress_command.footer(
      examples({"bitstrata compress model.onnx --data folder:DIR",
                "bitstrata compress model.onnx --data folder:DIR --target size=10x --epochs 5 --out job",
                "bitstrata compress model.onnx --data digits --method uniform --bits 4 --out job4",
                "bitstrata compress model.onnx --config job.yaml --resume"}));
  compress_command.callback([compress] {
    fill_in_defaults(*compress);
    run_compress(*compress);
  });

  auto search = std::make_shared<JobOptions>();
  CLI::App& search_command = add_job_command(app, "search", search);
  add_search_options(search_command, *search);
  search_command.footer(
      examples({"bitstrata search model.onnx --data digits --method eagl --target avg-bits=3 --out job3"}));
  search_command.callback([search] {
    fill_in_defaults(*search);
    run_search(*search);
  });

  auto finetune = std::make_shared<JobOptions>();
  CLI::App& finetune_command = add_job_command(app, "finetune", finetune);
  add_search_options(finetune_command, *finetune);
  add_training_options(finetune_command, finetune->training);
  add_distillation_options(finetune_command, finetune->training);
  add_all_images_option(finetune_command, *finetune);
  finetune_command.footer(
      examples({"bitstrata finetune model.onnx --data digits --plan job3/plan.json --epochs 3 --out tuned"}));
  finetune_command.callback([finetune] {
    fill_in_defaults(*finetune);
    run_finetune(*finetune);
  });

  auto root = std::make_shared<std::string>();
  CLI::App& compile_command = *app.add_subcommand("compile", train_command_description("compile"));
  compile_command.add_option("job", *root, "Folder of a fine-tuned job")->type_name("DIR")->required();
  compile_command.callback([root] { run_compile(*root); });
}

}  // namespace bitstrata::cli
