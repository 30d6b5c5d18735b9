// libFuzzer's entry: fuzz TARGET [FOLDER ...] [libFuzzer's options].
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/fuzz/targets.h"

namespace {
const jevons::FuzzTarget* g_target = nullptr;
}

// Takes the target's name out of the arguments, which libFuzzer reads afterwards.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  g_target = *argc > 1 ? jevons::FindTarget((*argv)[1]) : nullptr;
  if (g_target == nullptr) {
    std::fprintf(stderr, "fuzz: the first argument is a target: a folder's name in tests/fuzz/corpus\n");
    std::exit(2);
  }
  for (int i = 1; i + 1 < *argc; ++i) (*argv)[i] = (*argv)[i + 1];
  --*argc;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  g_target->run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
