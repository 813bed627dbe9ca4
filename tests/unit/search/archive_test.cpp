#include "search/archive.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "core/random.h"
#include "tests/unit/search/fakes.h"

namespace bitstrata::search {
namespace {

Space limited_space(double average_bits) {
  Space space = make_test_space(3, {8, 4, 2}, false);
  limit_average_bits(space, average_bits);
  return space;
}

Assignment all(int bits) {
  return Assignment(3, BitPair{bits, bits});
}

TEST(Archive, PrefersFeasibleThenAccurateThenCheapPlans) {
  const Space space = limited_space(4);
  Archive archive(space);
  EXPECT_FALSE(archive.best().has_value());
  EXPECT_TRUE(archive.add({all(8), {0.95, 0.1}, "a"}));
  EXPECT_FALSE(archive.met({0.9, 0}));
  EXPECT_TRUE(archive.add({{{8, 8}, {8, 8}, {4, 4}}, {0.5, 0.1}, "closer to the limit"}));
  EXPECT_FALSE(archive.add({all(8), {0.96, 0.1}, "farther"}));
  EXPECT_TRUE(archive.add({all(2), {0.3, 2}, "feasible"}));
  EXPECT_TRUE(archive.met({0.9, 0}));
  EXPECT_FALSE(archive.add({all(8), {0.97, 0.1}, "infeasible"}));
  EXPECT_TRUE(archive.add({all(4), {0.8, 1}, "more accurate"}));
  EXPECT_TRUE(archive.add({{{4, 4}, {4, 4}, {2, 4}}, {0.8, 1}, "cheaper"}));
  EXPECT_TRUE(archive.add({{{4, 4}, {4, 4}, {2, 2}}, {0.8, 1}, "cheaper in BitOPs"}));
  EXPECT_FALSE(archive.add({{{4, 4}, {4, 4}, {2, 2}}, {0.8, 1}, "the same again"}));
  EXPECT_EQ(archive.best()->how, "cheaper in BitOPs");
}

TEST(Archive, OfPlansWithinTheDropPrefersTheCheapest) {
  Space space = make_test_space(3, {8, 4, 2}, true);
  space.max_drop = 0.05;
  const Score reference{0.9, 0.1};
  Archive archive(space, reference);
  EXPECT_TRUE(archive.add({all(2), {0.3, 2}, "bad"}));
  EXPECT_FALSE(archive.met(reference));
  EXPECT_TRUE(archive.add({all(8), {0.91, 0.1}, "within"}));
  EXPECT_TRUE(archive.met(reference));
  EXPECT_TRUE(archive.add({all(4), {0.86, 0.2}, "within, cheaper"}));
  EXPECT_FALSE(archive.add({{{4, 4}, {4, 4}, {2, 2}}, {0.84, 0.2}, "not within"}));
  EXPECT_EQ(archive.best()->how, "within, cheaper");
  EXPECT_TRUE(archive.met(reference));
  EXPECT_FALSE(archive.met({0.95, 0.1}));
}

TEST(Archive, KeepsExactlyThePlansThatNoOtherCovers) {
  Space space = make_test_space(3, {8, 4, 2}, false);
  Random random(4, 4);
  for (Layer& layer : space.layers) {
    for (int i = 0; i < 9; ++i) layer.latency_ms.push_back(0.1 + random.uniform());
  }
  Archive archive(space);
  std::vector<Found> added;
  for (int i = 0; i < 300; ++i) {
    Found found;
    for (size_t l = 0; l < 3; ++l) found.assignment.push_back(space.candidates(l)[random.below(9)]);
    found.score.accuracy = static_cast<double>(random.below(20)) / 20;
    found.how = std::to_string(i);
    added.push_back(found);
    archive.add(found);
  }
  std::vector<std::string> expected, found;
  for (size_t i = 0; i < added.size(); ++i) {
    bool covered = false;
    for (size_t j = 0; j < added.size() && !covered; ++j) {
      if (i == j) continue;
      bool as_good = added[j].score.accuracy >= added[i].score.accuracy,
           equal = added[j].score.accuracy == added[i].score.accuracy;
      for (CostKind kind : kAllCosts) {
        const double a = space.cost(kind, added[j].assignment), b = space.cost(kind, added[i].assignment);
        as_good = as_good && a <= b;
        equal = equal && a == b;
      }
      covered = as_good && (!equal || j < i);
    }
    if (!covered) expected.push_back(added[i].how);
  }
  for (const Found& f : archive.pareto()) found.push_back(f.how);
  EXPECT_GT(found.size(), 10u);
  EXPECT_THAT(found, testing::UnorderedElementsAreArray(expected));
  EXPECT_TRUE(
      std::is_sorted(archive.pareto().begin(), archive.pareto().end(),
                     [](const Found& a, const Found& b) { return a.score.accuracy > b.score.accuracy; }));
}

Archive filled(const Space& space) {
  Archive archive(space);
  archive.add({all(8), {1.0 / 3, std::numeric_limits<double>::infinity()}, "diverged \"quoted\" \xc3\xa4"});
  archive.add({all(4), {0.1, std::nan("")}, "second"});
  archive.add({{{2, 8}, {4, 2}, {2, 2}}, {0x1.23456789abcdep-3, 0x1.fffffffffffffp-1}, "odd digits"});
  return archive;
}

TEST(ArchiveText, BringsEverythingBackExactly) {
  const Space space = limited_space(3);
  const Archive archive = filled(space);
  const std::string text = archive.to_text();
  Archive again(space);
  again.from_text(text);
  EXPECT_EQ(again.to_text(), text);
  ASSERT_EQ(again.pareto().size(), archive.pareto().size());
  for (size_t i = 0; i < again.pareto().size(); ++i) {
    EXPECT_EQ(again.pareto()[i].assignment, archive.pareto()[i].assignment);
    EXPECT_EQ(again.pareto()[i].score.accuracy, archive.pareto()[i].score.accuracy);
  }
  EXPECT_EQ(again.best()->how, archive.best()->how);
  EXPECT_EQ(again.best()->score.loss, archive.best()->score.loss);
  const Found next{all(2), {0.7, 0.2}, "next"};
  Archive continued = filled(space);
  EXPECT_EQ(again.add(next), continued.add(next));
  EXPECT_EQ(again.to_text(), continued.to_text());
  Archive empty(space), empty_again(space);
  empty_again.from_text(empty.to_text());
  EXPECT_FALSE(empty_again.best().has_value());
}

TEST(ArchiveText, RefusesWhatWasNotWrittenHere) {
  const Space space = limited_space(3);
  Archive archive = filled(space);
  const std::string text = archive.to_text();
  const auto expect_refused = [&](const std::string& damaged) {
    try {
      archive.from_text(damaged);
      ADD_FAILURE() << "accepted " << damaged;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruptFile);
    }
    EXPECT_EQ(archive.to_text(), text);
  };
  for (size_t length = 0; length < text.size(); length += 3) expect_refused(text.substr(0, length));
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string result = text;
    const size_t at = result.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return result.replace(at, from.size(), to);
  };
  expect_refused(text + " ");
  expect_refused(replaced("layer1", "layer9"));
  expect_refused(replaced("\"accuracy\": 0.", "\"accuracy\": 9."));
  expect_refused(replaced("\"accuracy\": 0.", "\"accuracy\": -0."));
  expect_refused(replaced("\"accuracy\"", "\"precision\""));
  expect_refused(replaced("\"how\"", "\"extra\": 1, \"how\""));
  expect_refused(replaced("\"pareto\": [", "\"pareto\": {"));
  expect_refused(replaced("    8", "    7"));
  expect_refused(replaced("\"archive\"", "\"ccq\""));
}

TEST(Archive, RefusesForeignPlansAndBadAccuracies) {
  const Space space = limited_space(3);
  Archive archive(space);
  EXPECT_THROW(archive.add({{{8, 8}}, {0.5, 1}, ""}), Error);
  EXPECT_THROW(archive.add({all(3), {0.5, 1}, ""}), Error);
  for (double accuracy : {std::nan(""), -0.1, 1.1})
    EXPECT_THROW(archive.add({all(4), {accuracy, 1}, ""}), Error);
  EXPECT_FALSE(archive.best().has_value());
  EXPECT_TRUE(archive.pareto().empty());
}

}  // namespace
}  // namespace bitstrata::search
