#include "common/output.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/progress.h"
#include "core/error.h"

namespace bitstrata::cli {

void add_output_options(CLI::App& app, OutputOptions& options) {
  app.add_flag("--json", options.json, "Print one JSON object on standard output and nothing else there");
  app.add_flag("-q,--quiet", options.quiet, "No progress and no notes on standard error");
}

void write_stdout(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    fail(ErrorCode::kIo, "standard output cannot be written: {}", std::strerror(errno));
  }
}

void write_json(const nlohmann::ordered_json& object) {
  write_stdout(object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

bool has_colour(int file_descriptor) noexcept {
  const char *term = std::getenv("TERM"), *refused = std::getenv("NO_COLOR");
  return isatty(file_descriptor) && term != nullptr && std::strcmp(term, "dumb") != 0 &&
         (refused == nullptr || *refused == '\0');
}

void write_stderr_line(std::string_view line) noexcept {
  Progress::erase_bar();
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fputc('\n', stderr);
  std::fflush(stderr);
}

namespace {

/// Columns that UTF-8 text takes: one per character.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

TextTable::TextTable(std::vector<std::string> titles) {
  for (auto& title : titles) {
    right_.push_back(title.starts_with('>'));
    if (right_.back()) title.erase(0, 1);
  }
  rows_.push_back(std::move(titles));
}

std::string TextTable::to_string() const {
  std::vector<size_t> widths(right_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  const bool bold = has_colour(STDOUT_FILENO);
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string gap = i == 0 ? "" : "  ";
      const std::string fill(widths[i] - width_of(row[i]), ' ');
      line += gap + (right_[i] ? fill + row[i] : row[i] + fill);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    const bool is_title = &row == &rows_.front();
    text += (is_title && bold ? "\033[1m" + line + "\033[0m" : line) + "\n";
  }
  return text;
}

}  // namespace bitstrata::cli
