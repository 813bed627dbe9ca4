#include "report_page.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace bitstrata::cli {

std::string script_json(const nlohmann::ordered_json& value) {
  std::string safe;
  for (char c : value.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace)) {
    switch (c) {
      case '<':
      case '>':
      case '&':
        safe += fmt::format("\\u{:04x}", static_cast<int>(c));
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

std::string report_page(const nlohmann::ordered_json& data) {
  const PageParts& parts = page_parts();
  std::string notice;
  if (!parts.charts_name.empty())
    notice = fmt::format("<!-- Charts: {}.\n\n{}-->\n", parts.charts_name, parts.charts_licence);
  return fmt::format(
      R"(<!doctype html>
<html lang="en">
{}<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>bitstrata report</title>
<link rel="icon" href="data:,">
<style>{}{}</style>
</head>
<body>
<main id="report"><noscript>This report draws itself with JavaScript; its figures are also in the JSON below and in the job's folder.</noscript></main>
<script type="application/json" id="data">{}</script>
<script>{}</script>
<script>{}</script>
<script>{}</script>
</body>
</html>
)",
      notice, parts.charts_style, parts.style, script_json(data), parts.charts_library, parts.charts_script,
      parts.script);
}

}  // namespace bitstrata::cli
