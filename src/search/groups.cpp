#include "search/groups.h"

#include <algorithm>
#include <functional>
#include <set>

#include "core/error.h"

namespace bitstrata::search {
namespace {

std::vector<BitPair> common_candidates(const Space& space, const std::vector<size_t>& layers) {
  std::vector<BitPair> common = space.candidates(layers.front());
  for (const size_t layer : layers) {
    const std::vector<BitPair> own = space.candidates(layer);
    std::erase_if(common, [&](BitPair pair) { return std::find(own.begin(), own.end(), pair) == own.end(); });
  }
  if (common.empty()) {
    fail(ErrorCode::kInvalidArgument,
         "search space: layer '{}' has no candidate bits in common with the layers tied to it; widen --bits",
         printable(space.layers[layers.front()].name));
  }
  return common;
}

std::vector<BitPair> make_ladder(const std::vector<BitPair>& candidates) {
  const std::vector<int> weights = weight_widths(candidates), activations = activation_widths(candidates);
  std::vector<BitPair> ladder;
  for (size_t i = 0; i < std::max(weights.size(), activations.size()); ++i) {
    ladder.push_back(
        {weights[std::min(i, weights.size() - 1)], activations[std::min(i, activations.size() - 1)]});
  }
  return ladder;
}

std::vector<int> descending(const std::set<int, std::greater<>>& widths) {
  return {widths.begin(), widths.end()};
}

}  // namespace

std::vector<Group> make_groups(const Space& space) {
  if (space.layers.empty())
    fail(ErrorCode::kInvalidArgument, "search space: no layers, so there is nothing to search");
  std::vector<Group> groups;
  std::vector<bool> placed(space.layers.size(), false);
  const auto place = [&](std::vector<size_t> layers) {
    std::sort(layers.begin(), layers.end());
    for (const size_t layer : layers) {
      if (placed[layer])
        fail(ErrorCode::kInvalidArgument, "search space: layer {} is in two tie groups", layer);
      placed[layer] = true;
    }
    std::vector<BitPair> candidates = common_candidates(space, layers);
    std::vector<BitPair> ladder = space.tied ? candidates : make_ladder(candidates);
    groups.push_back({std::move(layers), std::move(candidates), std::move(ladder)});
  };
  for (const auto& tie : space.ties) {
    std::vector<size_t> layers;
    for (const auto layer : tie) layers.push_back(static_cast<size_t>(layer));
    if (layers.empty() || *std::max_element(layers.begin(), layers.end()) >= placed.size()) {
      fail(ErrorCode::kInvalidArgument,
           "search space: a tie group is empty or names a layer beyond the {} of the space", placed.size());
    }
    place(std::move(layers));
  }
  for (size_t layer = 0; layer < placed.size(); ++layer) {
    if (!placed[layer]) place({layer});
  }
  std::sort(groups.begin(), groups.end(),
            [](const Group& a, const Group& b) { return a.layers.front() < b.layers.front(); });
  return groups;
}

std::vector<int> weight_widths(std::span<const BitPair> pairs) {
  std::set<int, std::greater<>> widths;
  for (const BitPair pair : pairs) widths.insert(pair.weight);
  return descending(widths);
}

std::vector<int> activation_widths(std::span<const BitPair> pairs) {
  std::set<int, std::greater<>> widths;
  for (const BitPair pair : pairs) widths.insert(pair.activation);
  return descending(widths);
}

}  // namespace bitstrata::search
