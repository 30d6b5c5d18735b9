// What the reader and the writer of FORMAT.md agree on. Internal to data/index.
#ifndef JEVONS_DATA_INDEX_INDEX_LAYOUT_H_
#define JEVONS_DATA_INDEX_INDEX_LAYOUT_H_

#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "kernels/base/status.h"

namespace jevons::index_layout {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian, and read in place");

inline constexpr std::array<char, 9> kMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', '\0', '\0'};
inline constexpr uint64_t kVersion = 1;
inline constexpr int64_t kVersionOffset = 9;
inline constexpr int64_t kTypeOffset = 17;
inline constexpr int64_t kSequencesOffset = 18;
inline constexpr int64_t kDocumentsOffset = 26;
inline constexpr int64_t kHeaderBytes = 34;  // 9 magic + 8 version + 1 type + 8 sequences + 8 document indices

inline std::string BinPath(const std::string& prefix) { return prefix + ".bin"; }
inline std::string IdxPath(const std::string& prefix) { return prefix + ".idx"; }
inline std::string SumsPath(const std::string& prefix) { return prefix + ".sums"; }

inline absl::Status CheckVocabSize(const std::string& prefix, int64_t vocab_size) {
  if (vocab_size >= 1 && vocab_size <= std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return UsageError(absl::StrFormat("%s: vocab_size is %d; it must lie in 1..2^31-1", prefix, vocab_size));
}

}  // namespace jevons::index_layout

#endif  // JEVONS_DATA_INDEX_INDEX_LAYOUT_H_
