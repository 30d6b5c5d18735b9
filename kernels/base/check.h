// Broken invariants abort (error tier 3 of the architecture): JEVONS_CHECK(cond) or JEVONS_CHECK(cond, "k = %d", k).
// For bad input (files, configs, command lines) return an absl::Status instead: see status.h.
// Free of Abseil, so that .cu files may include it.
#ifndef JEVONS_KERNELS_BASE_CHECK_H_
#define JEVONS_KERNELS_BASE_CHECK_H_

namespace jevons {

// Prints "file:line: check failed: expression: message" on stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression);
[[noreturn]] void CheckFailed(const char* file, int line, const char* expression, const char* format, ...)
    __attribute__((format(printf, 4, 5)));

}  // namespace jevons

#define JEVONS_CHECK(condition, ...)                                                    \
  do {                                                                                  \
    if (!(condition)) [[unlikely]]                                                      \
      ::jevons::CheckFailed(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)

#endif  // JEVONS_KERNELS_BASE_CHECK_H_
