// A keyed permutation of 0..size-1 that is computed, not stored: any position in O(1), both ways, for any
// size. A Feistel network over the smallest power of two >= size (whose halves may differ by one bit), walked
// along its cycle until it lands below size again (Black and Rogaway, "Ciphers with arbitrary finite
// domains", 2002): fewer than two steps on average.
#ifndef JEVONS_DATA_PERMUTATION_H_
#define JEVONS_DATA_PERMUTATION_H_

#include <array>
#include <bit>
#include <cstdint>

#include "kernels/base/philox.h"

namespace jevons {

class Permutation {
 public:
  // The identity. REQUIRES: size >= 0.
  explicit Permutation(int64_t size = 0) : size_(static_cast<uint64_t>(size)), identity_(true) {}

  // One of many: `key` decides which.
  Permutation(int64_t size, uint64_t key) : size_(static_cast<uint64_t>(size)) {
    const int bits = size > 1 ? std::bit_width(size_ - 1) : 0;
    low_bits_ = bits / 2;
    low_mask_ = (uint64_t{1} << low_bits_) - 1;
    high_mask_ = (uint64_t{1} << (bits - low_bits_)) - 1;
    for (size_t round = 0; round < kRounds; ++round) round_keys_[round] = RandomBits(key, size_, round);
  }

  int64_t size() const { return static_cast<int64_t>(size_); }

  // The element at `position`, and the position of `element`. REQUIRES: in 0..size-1.
  int64_t At(int64_t position) const {
    uint64_t value = static_cast<uint64_t>(position);
    if (identity_) return position;
    do value = Encrypt(value);
    while (value >= size_);
    return static_cast<int64_t>(value);
  }
  int64_t PositionOf(int64_t element) const {
    uint64_t value = static_cast<uint64_t>(element);
    if (identity_) return element;
    do value = Decrypt(value);
    while (value >= size_);
    return static_cast<int64_t>(value);
  }

 private:
  // Even. Four rounds make a pseudo-random permutation (Luby and Rackoff); small domains want more.
  static constexpr size_t kRounds = 8;

  // splitmix64's finaliser.
  static uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  uint64_t Encrypt(uint64_t value) const {
    uint64_t high = value >> low_bits_, low = value & low_mask_;
    for (size_t round = 0; round < kRounds; round += 2) {
      high ^= Mix(low + round_keys_[round]) & high_mask_;
      low ^= Mix(high + round_keys_[round + 1]) & low_mask_;
    }
    return high << low_bits_ | low;
  }
  uint64_t Decrypt(uint64_t value) const {
    uint64_t high = value >> low_bits_, low = value & low_mask_;
    for (size_t round = kRounds; round > 0; round -= 2) {
      low ^= Mix(high + round_keys_[round - 1]) & low_mask_;
      high ^= Mix(low + round_keys_[round - 2]) & high_mask_;
    }
    return high << low_bits_ | low;
  }

  uint64_t size_;
  bool identity_ = false;
  int low_bits_ = 0;
  uint64_t low_mask_ = 0, high_mask_ = 0;
  std::array<uint64_t, kRounds> round_keys_{};
};

}  // namespace jevons

#endif  // JEVONS_DATA_PERMUTATION_H_
