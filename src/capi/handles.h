#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "bitstrata/bitstrata.h"
#include "core/error.h"
#include "runtime/session.h"

struct bitstrata_model {
  std::shared_ptr<const bitstrata::runtime::Model> model;
};

struct bitstrata_session {
  bitstrata::runtime::Session session;
  std::vector<std::span<float>> outputs;  ///< one per output; here so that a run allocates nothing
};

namespace bitstrata::capi {

/// Makes `message` this thread's last error and returns `status`. Allocates nothing.
bitstrata_status remember(bitstrata_status status, const char* message) noexcept;

/// The status of an error of the library's inside.
bitstrata_status to_status(ErrorCode code) noexcept;

/// kInvalidArgument when `pointer` is null; `what` names it.
inline void check_pointer(const void* pointer, const char* what) {
  if (pointer == nullptr) fail(ErrorCode::kInvalidArgument, "found no {}: the pointer is null", what);
}

/// kNotFound when there is no such item.
inline void check_index(size_t index, size_t count, const char* what) {
  if (index >= count)
    fail(ErrorCode::kNotFound, "found {} {}, expected an index below {}", what, index, count);
}

/// Smallest struct_size that any version had: the field itself and one more.
inline constexpr size_t kMinStructBytes = 2 * sizeof(size_t);

inline void check_struct_size(size_t bytes, const char* what) {
  if (bytes < kMinStructBytes || bytes > (1u << 16))
    fail(ErrorCode::kInvalidArgument, "found struct_size {} of {}: set it by its _INIT macro", bytes, what);
}

/// Hands `from` to a caller whose struct may be shorter (an older header) or longer (a newer one), where the
/// rest keeps its values.
template <typename Struct>
void give(Struct from, Struct* to, const char* what) {
  check_pointer(to, what);
  from.struct_size = to->struct_size;
  check_struct_size(from.struct_size, what);
  std::memcpy(to, &from, std::min(from.struct_size, sizeof(Struct)));
}

/// Calls f; an exception becomes a status and this thread's last error.
template <typename F>
bitstrata_status guarded(F&& f) noexcept {
  try {
    f();
    return BITSTRATA_OK;
  } catch (const Error& error) {
    return remember(to_status(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return remember(BITSTRATA_OUT_OF_MEMORY, "not enough memory");
  } catch (const std::exception& error) {
    return remember(BITSTRATA_INTERNAL, error.what());
  } catch (...) {
    return remember(BITSTRATA_INTERNAL, "unknown exception");
  }
}

}  // namespace bitstrata::capi
