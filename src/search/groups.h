#pragma once

#include <span>
#include <vector>

#include "search/space.h"

namespace bitstrata::search {

/// Layers that take the same bits: a tie group of the space, or one free layer.
struct Group {
  std::vector<size_t> layers;
  std::vector<BitPair> candidates;  ///< those that all the layers have, from most to fewest bits
  /// The way down of a method that moves weights and input together: the candidates when tied; else the k-th
  /// rung has the k-th largest weight and activation width, the narrower list staying at its last.
  std::vector<BitPair> ladder;
};

/// All layers of the space in groups, ordered by their first layer. kInvalidArgument for a space without
/// layers, for ties that overlap or name no layer, and for tied layers without a common candidate.
std::vector<Group> make_groups(const Space& space);

/// Distinct weight (activation) widths of pairs, descending.
std::vector<int> weight_widths(std::span<const BitPair> pairs);
std::vector<int> activation_widths(std::span<const BitPair> pairs);

}  // namespace bitstrata::search
