/* Classify pictures of digits, 28 x 28 PGM files, with the model that model.py writes.

       ./classify picture*.pgm
*/

#include "digits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = DIGITS_PICTURES_COUNT(1), CLASSES = DIGITS_PROBABILITIES_COUNT(1) };

/* The pixels of a file; 0 if it is no such picture. */
static int read_picture(const char *path, uint8_t *pixels) {
  int width, height, most, is_read = 0;
  FILE *file = fopen(path, "rb");
  if (file == NULL) return 0;
  if (fscanf(file, "P5 %d %d %d", &width, &height, &most) == 3 && fgetc(file) != EOF)
    is_read = width == 28 && height == 28 && most == 255 &&
              fread(pixels, 1, PIXELS, file) == PIXELS;
  fclose(file);
  return is_read;
}

int main(int count, char **words) {
  int64_t batch = count - 1, i;
  digits_error error;
  digits_model *model;
  uint8_t *pixels;
  int64_t *digit;
  float *probabilities;
  int code;

  if (batch < DIGITS_BATCH_LOWEST || batch > DIGITS_BATCH_HIGHEST) {
    fprintf(stderr, "usage: classify PICTURE..., at most %d\n", DIGITS_BATCH_HIGHEST);
    return 2;
  }
  pixels = malloc(sizeof *pixels * DIGITS_PICTURES_COUNT(batch));
  digit = malloc(sizeof *digit * DIGITS_DIGIT_COUNT(batch));
  probabilities = malloc(sizeof *probabilities * DIGITS_PROBABILITIES_COUNT(batch));
  if (pixels == NULL || digit == NULL || probabilities == NULL) return 1;
  for (i = 0; i < batch; i++) {
    if (!read_picture(words[1 + i], pixels + i * PIXELS)) {
      fprintf(stderr, "%s is no PGM file of 28 x 28 bytes\n", words[1 + i]);
      return 1;
    }
  }

  model = digits_create(0, &error);
  if (model == NULL) {
    fprintf(stderr, "cannot make the model: %s\n", error.message);
    return 1;
  }
  digits_inputs inputs = {.pictures = pixels};
  digits_outputs outputs = {.digit = digit, .probabilities = probabilities};
  code = digits_run(model, batch, &inputs, &outputs, &error);
  if (code != DIGITS_OK) fprintf(stderr, "cannot run the model: %s\n", error.message);
  for (i = 0; i < batch && code == DIGITS_OK; i++) {
    float sure = probabilities[i * CLASSES + digit[i]];
    printf("%s: %" PRId64 " (%.0f %%)\n", words[1 + i], digit[i], 100 * sure);
  }

  digits_destroy(model);
  free(pixels);
  free(digit);
  free(probabilities);
  return code != DIGITS_OK;
}
