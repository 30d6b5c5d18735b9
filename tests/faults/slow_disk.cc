// LD_PRELOAD: every fsync of a file whose path has SLOW_FSYNC_PATH in it takes SLOW_FSYNC_MILLISECONDS longer.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace {
std::string PathOf(int fd) {
  char path[4096] = {};
  const ssize_t length = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path - 1);
  return length < 0 ? "" : path;
}
}  // namespace

extern "C" int fsync(int fd) {
  static const auto real = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, "fsync"));
  const char* const slow = std::getenv("SLOW_FSYNC_PATH");
  const char* const delay = std::getenv("SLOW_FSYNC_MILLISECONDS");
  if (slow != nullptr && delay != nullptr && PathOf(fd).find(slow) != std::string::npos)
    usleep(static_cast<useconds_t>(std::atoi(delay)) * 1000);
  return real(fd);
}
