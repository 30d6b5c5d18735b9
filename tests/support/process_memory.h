// The memory of another process, looked at and damaged from outside.
#ifndef JEVONS_TESTS_SUPPORT_PROCESS_MEMORY_H_
#define JEVONS_TESTS_SUPPORT_PROCESS_MEMORY_H_

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace jevons {

// Where `bytes` are in what the process may write and shares with none.
inline std::vector<uintptr_t> FindInProcess(pid_t pid, std::span<const std::byte> bytes) {
  std::vector<uintptr_t> found;
  const int memory = open(absl::StrCat("/proc/", pid, "/mem").c_str(), O_RDONLY | O_CLOEXEC);
  if (memory < 0) return found;
  std::ifstream maps(absl::StrCat("/proc/", pid, "/maps"));
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, mode) != 3 || std::strcmp(mode, "rw-p") != 0) continue;
    std::vector<char> part(end - begin);
    const ssize_t read = pread(memory, part.data(), part.size(), static_cast<off_t>(begin));
    if (read <= 0) continue;
    const char* const last = part.data() + read;
    for (const char* at = part.data();
         (at = static_cast<const char*>(memmem(at, static_cast<size_t>(last - at), bytes.data(), bytes.size()))) != nullptr; ++at)
      found.push_back(begin + static_cast<uintptr_t>(at - part.data()));
  }
  close(memory);
  return found;
}

// The lowest bit of the byte at `address`.
inline void TurnBitOfProcess(pid_t pid, uintptr_t address) {
  const int memory = open(absl::StrCat("/proc/", pid, "/mem").c_str(), O_RDWR | O_CLOEXEC);
  if (memory < 0) return;
  char byte = 0;
  if (pread(memory, &byte, 1, static_cast<off_t>(address)) == 1) {
    byte ^= 1;
    if (pwrite(memory, &byte, 1, static_cast<off_t>(address)) != 1) std::perror("/proc/PID/mem");
  }
  close(memory);
}

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_PROCESS_MEMORY_H_
