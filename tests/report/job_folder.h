#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/process.h"

namespace bitstrata::testing {

using Json = nlohmann::ordered_json;

/// A finished job of a two-layer network in a temporary folder, file for file as `compress` leaves it.
class JobFolder {
 public:
  /// Two names of layers; model.bst has them too.
  explicit JobFolder(std::vector<std::string> layers = {"first", "last"});

  std::string path() const { return folder_ / "job"; }
  std::string operator/(const std::string& name) const { return path() + "/" + name; }
  /// Writes a file of the job anew.
  void write(const std::string& name, const Json& value) const;
  void write_text(const std::string& name, const std::string& text) const;
  void remove(const std::string& name) const;
  /// compare.json of two methods beside the job: this one and one that has failed.
  Json comparison() const;
  /// Runs `bitstrata report` and returns the page.
  std::string page() const;
  /// The JSON inside a page.
  static Json data_of(const std::string& page);
  Json data() const { return data_of(page()); }

  Json run, plan, pareto, job;

 private:
  TemporaryFolder folder_;
};

}  // namespace bitstrata::testing
