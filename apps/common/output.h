#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace bitstrata::cli {

/// How a command talks: results go to stdout, everything else to stderr.
struct OutputOptions {
  bool json = false;   ///< exactly one JSON object on stdout instead of text
  bool quiet = false;  ///< no progress and no notes on stderr; errors are still printed
};

/// Adds --json and --quiet.
void add_output_options(CLI::App& app, OutputOptions& options);

/// Writes to standard output at once. kIo when that fails (a full disk, a closed file).
void write_stdout(std::string_view text);

/// Writes one JSON object and a newline to standard output. Text that is not UTF-8 gets replacement
/// characters.
void write_json(const nlohmann::ordered_json& object);

/// Whether text on this stream may be coloured: it is a terminal that shows colours, and NO_COLOR is unset
/// (https://no-color.org).
bool has_colour(int file_descriptor) noexcept;

/// Writes a line to stderr; an active progress bar is moved out of the way. Never throws.
void write_stderr_line(std::string_view line) noexcept;

/// A text table with aligned columns.
class TextTable {
 public:
  /// A column title that starts with '>' aligns its column to the right.
  explicit TextTable(std::vector<std::string> titles);
  /// Cells of one row, as many as titles.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// The rows as lines; the titles are bold when standard output has colours.
  std::string to_string() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<bool> right_;
};

}  // namespace bitstrata::cli
