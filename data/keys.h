// Random numbers of the data pipeline: each is a pure function of the seed, what it is for, and up to two
// indices.
#ifndef JEVONS_DATA_KEYS_H_
#define JEVONS_DATA_KEYS_H_

#include <cstdint>

#include "kernels/base/philox.h"

namespace jevons {

// The values are part of what a seed means: never renumber them.
enum class KeyPurpose : uint64_t {
  kMixturePhase = 0x6461746100000001,  // "data", 1; so that no other use of the seed coincides
  kDataset = 0x6461746100000002,
  kBucketing = 0x6461746100000003,
  kBucketOrder = 0x6461746100000004,
  kDocumentOrder = 0x6461746100000005,
  kFimChoice = 0x6461746100000006,
  kFimCut = 0x6461746100000007,
  kSampleOrder = 0x6461746100000008,
};

inline uint64_t DeriveKey(uint64_t seed, KeyPurpose purpose, uint64_t a = 0) {
  return RandomBits(seed, static_cast<uint64_t>(purpose), a);
}
inline uint64_t DeriveKey(uint64_t seed, KeyPurpose purpose, uint64_t a, uint64_t b) {
  return DeriveKey(DeriveKey(seed, purpose, a), purpose, b);
}

}  // namespace jevons

#endif  // JEVONS_DATA_KEYS_H_
