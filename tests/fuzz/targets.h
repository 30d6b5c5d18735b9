// What reads bytes that others wrote: each parser of a file or a message, as a function of the input alone.
#ifndef JEVONS_TESTS_FUZZ_TARGETS_H_
#define JEVONS_TESTS_FUZZ_TARGETS_H_

#include <span>
#include <string>

#include "trainer/files/file_system.h"

namespace jevons {

struct FuzzTarget {
  const char* name;  // also of its folder in tests/fuzz/corpus
  // Whether the input was taken. What is taken must keep the parser's promises, such as to be the same when it is written and read
  // again: the program aborts where it does not.
  bool (*run)(const std::string& input);
};

// By file: checkpoints and published models; tokens and tokenizers; descriptions; what ranks and supervisors tell each other.
std::span<const FuzzTarget> CheckpointTargets();
std::span<const FuzzTarget> DataTargets();
std::span<const FuzzTarget> ConfigTargets();
std::span<const FuzzTarget> JobTargets();
// nullptr where there is none of that name.
const FuzzTarget* FindTarget(const std::string& name);

// Writes a file, to be read by what is tested.
void PutFile(FileSystem& files, const std::string& path, const std::string& contents);

}  // namespace jevons

#endif  // JEVONS_TESTS_FUZZ_TARGETS_H_
