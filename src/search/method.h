#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "search/archive.h"
#include "search/evaluator.h"

namespace bitstrata::search {

/// A search in small steps: anytime (the archive holds the best plan after every step), resumable (save and restore between steps; together with
/// the evaluator's state a restored search takes the very same further steps). The final plan is the archive's best.
class Method : public Resumable {
 public:
  virtual const char* name() const noexcept = 0;
  virtual bool finished() const = 0;
  /// One unit of work, seconds at most: a mini-batch, a probe round, one table entry. Adds what it finds to the archive.
  virtual void step(Archive& archive) = 0;
  /// Progress: units done and the number expected in all (may change), and a few words on what goes on.
  struct Status {
    int64_t done = 0, expected = 0;
    std::string text;
  };
  virtual Status status() const = 0;
  /// Per layer, where the method yields one: larger is more sensitive (duals, traces, ...). Empty before it is known.
  virtual std::vector<double> sensitivity() const { return {}; }
};

}  // namespace bitstrata::search
