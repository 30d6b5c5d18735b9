// A directory of a test's own, removed at its end.
#ifndef JEVONS_TESTS_TRAINER_CHECKPOINT_TEST_DIRECTORY_H_
#define JEVONS_TESTS_TRAINER_CHECKPOINT_TEST_DIRECTORY_H_

#include <stdlib.h>

#include <string>

#include "kernels/base/check.h"
#include "trainer/checkpoint/file_system.h"

namespace jevons {

class TestDirectory {
 public:
  TestDirectory() : path_("/tmp/jevons_test.XXXXXX") { JEVONS_CHECK(mkdtemp(path_.data()) != nullptr); }
  ~TestDirectory() { RemoveTree(PosixFileSystem(), path_).IgnoreError(); }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace jevons

#endif  // JEVONS_TESTS_TRAINER_CHECKPOINT_TEST_DIRECTORY_H_
