/* classify MODEL.bst IMAGE.f32: prints what the network says about one image, given as raw float32 in the
 * order [C, H, W], already normalised. */
#include <bitstrata/bitstrata.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char* what) {
  fprintf(stderr, "classify: %s: %s\n", what, bitstrata_last_error());
  return EXIT_FAILURE;
}

/* Reads exactly `count` floats; 0 when the file holds another number. */
static int read_floats(const char* path, float* values, size_t count) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) return 0;
  const int exact = fread(values, sizeof *values, count, file) == count && fgetc(file) == EOF;
  fclose(file);
  return exact;
}

static int classify(const bitstrata_model* model, const char* image_path) {
  bitstrata_tensor_info input = BITSTRATA_TENSOR_INFO_INIT, output = BITSTRATA_TENSOR_INFO_INIT;
  if (bitstrata_model_get_input(model, 0, &input) != BITSTRATA_OK) return fail("input");
  if (bitstrata_model_get_output(model, 0, &output) != BITSTRATA_OK) return fail("output");

  int status = EXIT_FAILURE;
  bitstrata_session* session = NULL;
  float* image = malloc(input.element_count * sizeof *image);
  float* scores = malloc(output.element_count * sizeof *scores);
  if (image == NULL || scores == NULL || !read_floats(image_path, image, input.element_count)) {
    fprintf(stderr, "classify: %s: expected %zu float32 values\n", image_path, input.element_count);
  } else if (bitstrata_session_create(model, &session) != BITSTRATA_OK ||
             bitstrata_session_run(session, 1, image, input.element_count, &scores, &output.element_count,
                                   1) != BITSTRATA_OK) {
    fail("run");
  } else {
    size_t best = 0;
    for (size_t i = 0; i < output.element_count; ++i) {
      printf("%zu %.9g\n", i, scores[i]);
      if (scores[i] > scores[best]) best = i;
    }
    const char* name = "without a name";
    bitstrata_model_class_name(model, best, &name); /* keeps `name` when the file has no names */
    printf("class %zu: %s\n", best, name);
    status = EXIT_SUCCESS;
  }
  bitstrata_session_free(session);
  free(scores);
  free(image);
  return status;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: classify MODEL.bst IMAGE.f32\n");
    return 2;
  }
  bitstrata_model* model = NULL;
  if (bitstrata_model_load(argv[1], NULL, &model) != BITSTRATA_OK) return fail("load");
  const int status = classify(model, argv[2]);
  bitstrata_model_free(model);
  return status;
}
