#include "data/sources.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "data/memory.h"
#include "data/parallel.h"
#include "data/resize.h"

namespace bitstrata::data {

std::vector<uint8_t> fit_images(std::vector<uint8_t> pixels, const ImageShape& from, const ImageShape& to,
                                int threads) {
  if (from == to) return pixels;
  const size_t count = pixels.size() / from.num_elems();
  check_fits_memory(count, to.num_elems(), "the resized data");
  std::vector<uint8_t> fitted(count * to.num_elems());
  parallel_for(count, 64, threads, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      fit_image(&pixels[i * from.num_elems()], from, &fitted[i * to.num_elems()], to);
    }
  });
  return fitted;
}

std::vector<std::string> numbered_classes(int count) {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

std::vector<int32_t> checked_labels(const std::vector<int64_t>& values, int num_classes,
                                    const std::string& where) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= num_classes) {
      fail(ErrorCode::kBadInput, "{}: label {} of sample {} is out of range, expected 0 to {}",
           printable(where), values[i], i, num_classes - 1);
    }
  }
  return {values.begin(), values.end()};
}

int count_classes(const std::vector<int64_t>& labels, const std::string& where) {
  constexpr int64_t kMaxClasses = 65536;
  if (labels.empty()) fail(ErrorCode::kBadInput, "{} has no samples", printable(where));
  const auto [least, greatest] = std::minmax_element(labels.begin(), labels.end());
  const auto bad = *least < 0 ? least : greatest;
  if (*bad < 0 || *bad >= kMaxClasses) {
    fail(ErrorCode::kBadInput, "{}: label {} of sample {} is out of range, expected 0 to {}",
         printable(where), *bad, bad - labels.begin(), kMaxClasses - 1);
  }
  return static_cast<int>(*greatest) + 1;
}

std::vector<std::string> read_class_names(const std::filesystem::path& path) {
  const std::string text = read_text_file(path);
  std::vector<std::string> names;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    if (names.back().ends_with('\r')) names.back().pop_back();
    begin = end + 1;
  }
  while (!names.empty() && names.back().empty()) names.pop_back();
  if (names.empty())
    fail(ErrorCode::kBadInput, "{} has no class names, expected one a line", printable(path.string()));
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (name.empty() || !seen.insert(name).second) {
      fail(ErrorCode::kBadInput, "{}: class name '{}' is {}, expected one distinct name a line",
           printable(path.string()), printable(name), name.empty() ? "blank" : "there twice");
    }
  }
  return names;
}

void check_same_classes(const std::vector<std::string>& train, const std::vector<std::string>& test,
                        const std::string& where) {
  const auto [in_train, in_test] = std::mismatch(train.begin(), train.end(), test.begin(), test.end());
  if (in_train == train.end() && in_test == test.end()) return;
  // Both are sorted, so the smaller of the two is the one that the other list lacks.
  const bool test_lacks = in_test == test.end() || (in_train != train.end() && *in_train < *in_test);
  fail(ErrorCode::kBadInput, "{}: class '{}' is in {} but not in {}; give both splits the same classes",
       printable(where), printable(test_lacks ? *in_train : *in_test), test_lacks ? "train" : "test",
       test_lacks ? "test" : "train");
}

}  // namespace bitstrata::data
