#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.h"
#include "common/option_checks.h"
#include "common/output.h"
#include "common/progress.h"
#include "core/file.h"
#include "report_data.h"
#include "report_page.h"

namespace bitstrata::cli {
namespace {

struct ReportOptions {
  std::string folder, out;
  OutputOptions output;
};

void run_report(const ReportOptions& options) {
  std::optional<Waiting> waiting(std::in_place, "report", options.output.quiet);
  auto data = read_report(options.folder);
  data["charts"] = page_parts().charts_name;
  const auto path = options.out.empty() ? std::filesystem::path(options.folder) / "report.html"
                                        : std::filesystem::path(options.out);
  const std::string page = report_page(data);
  write_file_atomically(path, std::string_view(page));
  waiting.reset();
  if (options.output.json) {
    write_json({{"report", path.string()}, {"bytes", page.size()}});
  } else {
    write_stdout(path.string() + "\n");
  }
}

}  // namespace

void add_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App& command = *app.add_subcommand("report", "Show a job as one self-contained HTML file");
  command.add_option("folder", options->folder, "Folder of a job or of compare")
      ->type_name("DIR")
      ->required();
  command.add_option("--out", options->out, "Where to write it (default: DIR/report.html)")
      ->type_name("FILE");
  add_output_options(command, options->output);
  command.footer(examples({"bitstrata report job", "bitstrata report table --out table.html"}));
  command.callback([options] { run_report(*options); });
}

}  // namespace bitstrata::cli
