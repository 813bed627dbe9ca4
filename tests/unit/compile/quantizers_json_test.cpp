#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "compile/quantizers_json.h"
#include "core/error.h"

namespace bitstrata::compile {
namespace {

Quantizers sample() {
  Quantizers q;
  q.layers["stage/conv \"1\"\n"] = {
      {0.1f, std::nextafter(0.1f, 1.0f), std::numeric_limits<float>::denorm_min(),
       std::numeric_limits<float>::max()},
      {3, -5, 1.0f / 3}};
  q.layers["fc"] = {{7e-30f}, {8, -255, 1e-12f}};
  q.streams["relu"] = {1, 0, 16777217.0f};
  return q;
}

void expect_equal(const Quantizers& a, const Quantizers& b) {
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (const auto& [name, layer] : a.layers) {
    EXPECT_EQ(layer.weight_params, b.layers.at(name).weight_params);
    EXPECT_EQ(layer.input, b.layers.at(name).input);
  }
  EXPECT_EQ(a.streams, b.streams);
}

TEST(QuantizersJson, RoundTripIsExact) {
  expect_equal(sample(), quantizers_from_json(to_json(sample()), "q"));
  expect_equal({}, quantizers_from_json(to_json(Quantizers{}), "q"));
}

void expect_refused(const std::string& text) {
  try {
    quantizers_from_json(text, "some.json");
    ADD_FAILURE() << "accepted " << text;
  } catch (const Error& error) {
    EXPECT_TRUE(error.code() == ErrorCode::kCorruptFile || error.code() == ErrorCode::kBadInput ||
                error.code() == ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), testing::HasSubstr("some.json"));
  }
}

TEST(QuantizersJson, RefusesEveryTruncation) {
  const std::string text = to_json(sample());
  for (size_t length = 0; length <= text.find_last_of('}'); ++length) expect_refused(text.substr(0, length));
}

TEST(QuantizersJson, RefusesWhatIsNoQuantizer) {
  const auto with = [](const char* code, const char* params = "[1.0]", const char* version = "1") {
    return std::string("{\"version\": ") + version + ", \"layers\": {\"a\": {\"input\": " + code +
           ", \"weight_params\": " + params + "}}, \"streams\": {}}";
  };
  const char* good = R"({"bits": 4, "zero": -3, "scale": 0.5})";
  ASSERT_EQ(quantizers_from_json(with(good), "q").layers.at("a").input, (quant::CodeType{4, -3, 0.5f}));
  for (const char* code :
       {R"({"bits": 0, "zero": 0, "scale": 1})", R"({"bits": 9, "zero": 0, "scale": 1})",
        R"({"bits": 4, "zero": 1, "scale": 1})", R"({"bits": 4, "zero": -16, "scale": 1})",
        R"({"bits": 4, "zero": 0, "scale": 0})", R"({"bits": 4, "zero": 0, "scale": -1})",
        R"({"bits": 4, "zero": 0, "scale": 1e300})", R"({"bits": 4, "zero": 0, "scale": 1e-300})",
        R"({"bits": 4, "zero": 0, "scale": "1"})", R"({"bits": 4.5, "zero": 0, "scale": 1})",
        R"({"bits": true, "zero": 0, "scale": 1})", R"({"bits": 4294967300, "zero": 0, "scale": 1})",
        R"({"bits": 4, "zero": 18446744073709551615, "scale": 1})",
        R"({"bits": 4, "zero": null, "scale": 1})", R"({"bits": 4, "scale": 1})", "3", "[]"}) {
    expect_refused(with(code));
  }
  for (const char* params : {"3", "[\"a\"]", "[null]", "[1e300]", "[true]"})
    expect_refused(with(good, params));
  for (const char* version : {"2", "\"1\"", "1.5", "true", "4294967297"})
    expect_refused(with(good, "[1]", version));
  expect_refused("[]");
  expect_refused(R"({"version": 1, "layers": {}})");
  expect_refused(R"({"version": 1, "layers": [], "streams": 3})");
  expect_refused(std::string(100000, '{'));
}

}  // namespace
}  // namespace bitstrata::compile
