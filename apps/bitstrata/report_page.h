#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace bitstrata::cli {

/// What the executable carries of report.html. Empty `charts_name`: built without the chart library.
struct PageParts {
  std::string_view charts_name, charts_licence, charts_style, charts_library;
  std::string_view charts_script, style, script;
};

/// Embedded by CMake.
const PageParts& page_parts() noexcept;

/// JSON that is safe inside a script element, whatever its strings hold: ASCII, without <, > and &.
std::string script_json(const nlohmann::ordered_json& value);

/// One self-contained HTML file that shows `data`, an object as of read_report().
std::string report_page(const nlohmann::ordered_json& data);

}  // namespace bitstrata::cli
