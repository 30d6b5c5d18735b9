#include "kernels/base/check.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace jevons {

void CheckFailed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, expression);
  std::abort();
}

void CheckFailed(const char* file, int line, const char* expression, const char* format, ...) {
  std::fprintf(stderr, "%s:%d: check failed: %s: ", file, line, expression);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::abort();
}

}  // namespace jevons
