#include <cstdint>
#include <limits>

#include "capi/handles.h"

namespace bitstrata::capi {
namespace {

void check_floats(const float* values, const char* what) {
  check_pointer(values, what);
  if (reinterpret_cast<uintptr_t>(values) % alignof(float) != 0)
    fail(ErrorCode::kInvalidArgument, "{}: the address is not a multiple of {}", what, alignof(float));
}

}  // namespace
}  // namespace bitstrata::capi

using namespace bitstrata;
using capi::guarded;

bitstrata_status bitstrata_session_create(const bitstrata_model* model, bitstrata_session** session) {
  return guarded([&] {
    capi::check_pointer(session, "place for the session");
    *session = nullptr;
    capi::check_pointer(model, "model");
    *session = new bitstrata_session{runtime::Session(model->model),
                                     std::vector<std::span<float>>(model->model->program().outputs.size())};
  });
}

void bitstrata_session_free(bitstrata_session* session) {
  delete session;
}

bitstrata_status bitstrata_session_run(bitstrata_session* session, size_t image_count, const float* input,
                                       size_t input_size, float* const* outputs, const size_t* output_sizes,
                                       size_t output_count) {
  return guarded([&] {
    capi::check_pointer(session, "session");
    capi::check_floats(input, "input");
    capi::check_pointer(outputs, "outputs");
    capi::check_pointer(output_sizes, "sizes of outputs");
    if (output_count != session->outputs.size())
      fail(ErrorCode::kBadInput, "run: found {} outputs, expected {}", output_count, session->outputs.size());
    for (size_t i = 0; i < output_count; ++i) {
      capi::check_floats(outputs[i], "output");
      session->outputs[i] = {outputs[i], output_sizes[i]};
    }
    // More than an int holds is refused all the same.
    const auto n = static_cast<int>(std::min<size_t>(image_count, std::numeric_limits<int>::max()));
    session->session.run({input, input_size}, n, session->outputs);
  });
}
