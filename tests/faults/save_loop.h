#ifndef JEVONS_TESTS_FAULTS_SAVE_LOOP_H_
#define JEVONS_TESTS_FAULTS_SAVE_LOOP_H_

#include <cstdint>

namespace jevons {

// The size of the TestState that save_loop saves: about 110 KB.
inline constexpr int64_t kSaveLoopScale = 10;

}  // namespace jevons

#endif  // JEVONS_TESTS_FAULTS_SAVE_LOOP_H_
