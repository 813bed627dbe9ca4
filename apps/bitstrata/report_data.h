#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace bitstrata::cli {

/// Everything report.html shows of a job's folder, or of a folder of `compare`; what the folder lacks is left
/// out. kIo when there is no such folder, kNotFound when it holds nothing to report, kCorruptFile and
/// kBadInput for damaged files.
nlohmann::ordered_json read_report(const std::filesystem::path& folder);

/// The comparison in compare.json of the folder or of its parent; null without one.
nlohmann::ordered_json read_comparison(const std::filesystem::path& folder);

/// The command line that runs a job again, from its checkpoint/job.json and the number of threads where it is
/// known.
std::string reproducing_command(const nlohmann::ordered_json& job, const std::string& out,
                                std::optional<int> threads);

/// The command line of the comparison that read_comparison has returned. Rows by method come before those
/// with options of their own.
std::string comparing_command(const nlohmann::ordered_json& comparison, const std::string& out);

}  // namespace bitstrata::cli
