/*
 * libbitstrata: runs packed networks (model.bst) on a CPU. This is the whole C interface;
 * bitstrata.hpp wraps it for C++.
 *
 * Conventions
 *
 *  1. Handles. bitstrata_model and bitstrata_session are opaque. What a function creates, the caller
 *     frees with the matching _free function, which accepts NULL. A session keeps what it needs of its
 *     model: free them in any order.
 *  2. Errors. Every function that can fail returns a bitstrata_status; 0 is success. After a failure
 *     bitstrata_last_error() returns a message for this thread: one line that says what, where, what was
 *     found, what was expected. A function that fails leaves its results untouched, but sets the handle
 *     it was to create to NULL. Nothing is printed, the process is never ended, no exception leaves the
 *     library.
 *  3. Arguments are checked: null pointers, sizes, indices, names. What cannot be checked: that a pointer
 *     that is not null points to as many elements as the call says, and that a handle is alive.
 *  4. Threads. A model is immutable: any number of threads may use it at once, and make sessions of it. A
 *     session is used by one thread at a time. To run networks side by side, give each thread its own
 *     session of the same model.
 *  5. Strings are UTF-8, end with a zero and never NULL. Those that a function hands out live as long as
 *     the model they come from; those of functions without a model live for ever, except
 *     bitstrata_last_error()'s.
 *  6. Structs begin with struct_size, by which they may grow in later versions: set every struct by its
 *     _INIT macro first.
 *  7. Tensors are float32 in row-major order, the image index outermost: [n, C, H, W] for pictures,
 *     without gaps. An image's dims are those of bitstrata_tensor_info. Pixels must already be
 *     normalised: (pixel / 255 - mean) / std, see bitstrata_model_normalization.
 *  8. Sizes are in elements unless the name says _bytes. Bits of a float32 tensor are 32.
 *  9. Versions. docs/versioning.md: the SONAME changes when a program must be compiled anew; names and
 *     numbers are only added.
 */
#ifndef BITSTRATA_BITSTRATA_H
#define BITSTRATA_BITSTRATA_H

#include <stddef.h>
#include <stdint.h>

#include "bitstrata/version.h"

#if defined(__GNUC__)
#define BITSTRATA_API __attribute__((visibility("default")))
#else
#define BITSTRATA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status and versions */

typedef enum bitstrata_status {
  BITSTRATA_OK = 0,
  BITSTRATA_INVALID_ARGUMENT = 1, /* a null pointer, an unknown name, a number out of range */
  BITSTRATA_UNSUPPORTED = 2,      /* valid, but more than this machine or version can, as too large a batch */
  BITSTRATA_CORRUPT_FILE = 3,     /* a file's bytes contradict its format */
  BITSTRATA_IO = 4,               /* the operating system refused */
  BITSTRATA_NOT_FOUND = 5,        /* an index or name that does not exist */
  BITSTRATA_BAD_INPUT = 6,        /* readable input of the wrong kind or size, a wrong batch */
  BITSTRATA_OUT_OF_MEMORY = 7,
  BITSTRATA_INTERNAL = 8 /* a bug in the library */
} bitstrata_status;

/* Stable lower-case name, as "corrupt-file"; "unknown" for other numbers. */
BITSTRATA_API const char* bitstrata_status_name(bitstrata_status status);

/* Message of the last call that failed in this thread, "" when there was none. Valid until the next failure
 * in this thread. Messages beyond 2047 bytes are cut. */
BITSTRATA_API const char* bitstrata_last_error(void);

/* Version of the library that is loaded, as "0.1.0". */
BITSTRATA_API const char* bitstrata_version(void);

/* Newest version of the .bst format that this library reads; it reads all older ones too. */
BITSTRATA_API uint32_t bitstrata_format_version(void);

/* ---- Models */

typedef struct bitstrata_model bitstrata_model;

typedef struct bitstrata_options {
  size_t struct_size;
  int32_t threads;   /* threads of one run, 1 to 1024 */
  int32_t max_batch; /* images of one run, 1 to 65536; sessions allocate memory for it */
  /* Highest instruction set: "scalar", "neon", "avx2", "avx512", "vnni" or "amx". NULL: the environment
   * variable BITSTRATA_ISA if set, else the machine's best. */
  const char* isa;
  /* Only this family of kernels for quantized layers, as "reference", "bitplane" or "int8". NULL: the fastest
   * for each layer. Results are equal. */
  const char* kernels;
  /* Choose each layer's kernel by measuring, once per layer, CPU and setting, and keep the times in this file
   * ("": nowhere). NULL: choose by estimate, which takes no time. */
  const char* kernel_times;
} bitstrata_options;

/* The defaults. */
#define BITSTRATA_OPTIONS_INIT \
  { sizeof(bitstrata_options), 1, 1, NULL, NULL, NULL }

/* Reads a .bst file and prepares it for this machine. options: NULL for the defaults. IO, BAD_INPUT (not a
 * regular file), CORRUPT_FILE, UNSUPPORTED, OUT_OF_MEMORY, INVALID_ARGUMENT. */
BITSTRATA_API bitstrata_status bitstrata_model_load(const char* path, const bitstrata_options* options,
                                                    bitstrata_model** model);

/* As bitstrata_model_load, from the bytes of such a file, which are not needed afterwards. */
BITSTRATA_API bitstrata_status bitstrata_model_load_memory(const void* bytes, size_t size_bytes,
                                                           const bitstrata_options* options,
                                                           bitstrata_model** model);

BITSTRATA_API void bitstrata_model_free(bitstrata_model* model);

typedef struct bitstrata_model_info {
  size_t struct_size;
  size_t input_count; /* 1 */
  size_t output_count;
  size_t layer_count;
  size_t class_count;   /* names of classes in the file; may be 0 */
  size_t channel_count; /* entries of mean and std; may be 0 */
  uint64_t macs;        /* multiply-accumulates of one image */
  size_t weight_bytes;  /* convolution and linear weights as stored */
  size_t arena_bytes;   /* memory of one session */
  int32_t threads;
  int32_t max_batch;
  const char* isa; /* instruction set in use */
} bitstrata_model_info;
#define BITSTRATA_MODEL_INFO_INIT \
  { sizeof(bitstrata_model_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "" }

BITSTRATA_API bitstrata_status bitstrata_model_get_info(const bitstrata_model* model,
                                                        bitstrata_model_info* info);

#define BITSTRATA_MAX_RANK 8

typedef struct bitstrata_tensor_info {
  size_t struct_size;
  const char* name;
  size_t rank;                      /* 1 to BITSTRATA_MAX_RANK */
  int64_t dims[BITSTRATA_MAX_RANK]; /* of one image, without the batch; those beyond rank are 0 */
  size_t element_count;             /* of one image: the product of dims */
} bitstrata_tensor_info;
#define BITSTRATA_TENSOR_INFO_INIT \
  { sizeof(bitstrata_tensor_info), "", 0, {0, 0, 0, 0, 0, 0, 0, 0}, 0 }

/* NOT_FOUND for an index that is not below input_count, output_count. */
BITSTRATA_API bitstrata_status bitstrata_model_get_input(const bitstrata_model* model, size_t index,
                                                         bitstrata_tensor_info* info);
BITSTRATA_API bitstrata_status bitstrata_model_get_output(const bitstrata_model* model, size_t index,
                                                          bitstrata_tensor_info* info);

typedef struct bitstrata_layer_info {
  size_t struct_size;
  const char* name;        /* of the node that it comes from */
  const char* op;          /* "conv", "linear", "max-pool", ... */
  const char* kernel;      /* as "conv_bitplane__avx2"; "-" for ops without a choice of kernel */
  int32_t weight_bits;     /* 1 to 8, or 32; 0 without weights */
  int32_t activation_bits; /* of the layer's input: 1 to 8, or 32 */
  uint64_t macs;           /* multiply-accumulates of one image; 0 but for conv and linear */
  size_t weight_count;
  size_t weight_bytes; /* as stored */
} bitstrata_layer_info;
#define BITSTRATA_LAYER_INFO_INIT \
  { sizeof(bitstrata_layer_info), "", "", "", 0, 0, 0, 0, 0 }

/* Layers in the order in which they run. NOT_FOUND for an index that is not below layer_count. */
BITSTRATA_API bitstrata_status bitstrata_model_get_layer(const bitstrata_model* model, size_t index,
                                                         bitstrata_layer_info* info);

/* Name of a class. NOT_FOUND for an index that is not below class_count. */
BITSTRATA_API bitstrata_status bitstrata_model_class_name(const bitstrata_model* model, size_t index,
                                                          const char** name);

/* How the network wants its pixels: x = (pixel / 255 - mean[c]) / std[c] for channel c. mean, std:
 * [channel_count]; `capacity` is the room of each. BAD_INPUT when that is less than channel_count. */
BITSTRATA_API bitstrata_status bitstrata_model_normalization(const bitstrata_model* model, float* mean,
                                                             float* std, size_t capacity);

/* ---- Sessions */

typedef struct bitstrata_session bitstrata_session;

/* Allocates arena_bytes. UNSUPPORTED or OUT_OF_MEMORY when there is not enough memory. */
BITSTRATA_API bitstrata_status bitstrata_session_create(const bitstrata_model* model,
                                                        bitstrata_session** session);

BITSTRATA_API void bitstrata_session_free(bitstrata_session* session);

/* Runs `image_count` images, 1 to max_batch. input: `input_size` = image_count * element_count of the input.
 * outputs[i]: room for output_sizes[i] = image_count * element_count of output i, overwritten; output_count:
 * as bitstrata_model_info says. Neither allocates nor keeps a pointer. BAD_INPUT when sizes do not fit. */
BITSTRATA_API bitstrata_status bitstrata_session_run(bitstrata_session* session, size_t image_count,
                                                     const float* input, size_t input_size,
                                                     float* const* outputs, const size_t* output_sizes,
                                                     size_t output_count);

#ifdef __cplusplus
}
#endif

#endif
