#include <gtest/gtest.h>

#include "format/bst.h"
#include "program/reference.h"
#include "runtime/session.h"
#include "tests/support/random_program.h"

namespace bitstrata {
namespace {

TEST(Embed, WritesReadsAndRunsANetworkWithTheLibraryAlone) {
  const program::Program network = testing::random_program(7);
  const program::Program read_back = format::decode(format::encode(network), "memory");
  const auto input = testing::random_input(read_back, 1, 1);

  runtime::Session session(runtime::Model::prepare(read_back, {}));
  std::vector<std::vector<float>> outputs;
  for (program::TensorId id : read_back.outputs) {
    outputs.emplace_back(
        static_cast<size_t>(program::elements(read_back.tensors[static_cast<size_t>(id)].dims)));
  }
  const std::vector<std::span<float>> spans(outputs.begin(), outputs.end());
  session.run(input, 1, spans);

  const auto expected = program::run_reference(network, input);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto id = static_cast<size_t>(network.outputs[i]);
    const auto& code = network.tensors[id].code;
    for (size_t k = 0; k < outputs[i].size(); ++k) {
      EXPECT_EQ(outputs[i][k],
                code ? quant::dequantize(expected.codes[id][k], *code) : expected.floats[id][k])
          << i << " " << k;
    }
  }
}

}  // namespace
}  // namespace bitstrata
