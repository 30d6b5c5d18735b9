// Splits text into the pieces ("words") that BPE merges within. The regular expressions of a tokenizer.json
// are not run by an engine: each known sequence of patterns has a hand-written splitter (splitters.h), ten
// times as fast, checked against PCRE2 in the tests. A new family is one more row in the table of
// pretokenizer.cc.
#ifndef JEVONS_DATA_TOKENIZER_PRETOKENIZER_H_
#define JEVONS_DATA_TOKENIZER_PRETOKENIZER_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace jevons {

// Hugging Face's Digits: numbers are cut out of the text, each character alone or run by run.
enum class Digits { kNone, kEach, kRuns };

class Pretokenizer {
 public:
  // The patterns of DeepSeek-V3, the kind that is trained here.
  static Pretokenizer DeepSeekV3();
  // What ByteLevel does alone: GPT-2's pattern. With `add_prefix_space` a text that does not begin with a
  // space is given one; Split leaves that to its caller.
  static Pretokenizer ByteLevel(bool add_prefix_space);
  // The splitter for a sequence of Split(Isolated) patterns, each of which splits the pieces of the one
  // before. Integrity error, naming the first pattern without a counterpart, if none is known.
  static absl::StatusOr<Pretokenizer> ForPatterns(std::span<const std::string> patterns);

  // The same with Digits, before the patterns (which then see the pieces) or after them.
  enum class Order { kBefore, kAfter };
  Pretokenizer WithDigits(Digits digits, Order order) const;

  // The patterns in order, as tokenizer.json states them.
  std::vector<std::string> patterns() const;
  // Whether no character is left between the matches, so that Split(Removed, inverted) means the same.
  bool covers() const;
  bool is_byte_level() const { return byte_level_; }
  bool add_prefix_space() const { return add_prefix_space_; }
  Digits digits() const { return digits_; }
  Order digits_order() const { return digits_order_; }

  // Appends the end offset of each piece of `text` to `ends`, in order; the pieces cover the text without
  // gaps, and none is empty. A byte that is not valid UTF-8 counts as a character of no class.
  void Split(absl::string_view text, std::vector<size_t>& ends) const;

 private:
  struct Family;
  static std::span<const Family> Families();
  explicit Pretokenizer(const Family& family) : family_(&family) {}
  const Family* family_;  // in static storage
  bool byte_level_ = false;
  bool add_prefix_space_ = false;
  Digits digits_ = Digits::kNone;
  Order digits_order_ = Order::kBefore;
};

}  // namespace jevons

#endif  // JEVONS_DATA_TOKENIZER_PRETOKENIZER_H_
