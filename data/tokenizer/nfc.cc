#include "data/tokenizer/nfc.h"

#include <algorithm>
#include <bitset>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "data/tokenizer/nfc_table.h"
#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

// Hangul syllables by formula (Unicode 16.0, section 3.12).
constexpr uint32_t kSBase = 0xAC00, kLBase = 0x1100, kVBase = 0x1161, kTBase = 0x11A7;
constexpr uint32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

struct Tables {
  absl::flat_hash_map<uint32_t, uint8_t> combining;
  absl::flat_hash_map<uint32_t, std::pair<uint32_t, uint32_t>> decompositions;
  absl::flat_hash_map<uint64_t, uint32_t> compositions;  // first << 32 | second
  // Characters that form C may change, move or join to what comes before: all others are a boundary, and what
  // lies between two boundaries of which the second follows at once is copied.
  std::bitset<kMaxCodePoint + 1> active;

  static const Tables& Get() {
    static const Tables* const tables = new Tables;
    return *tables;
  }

 private:
  Tables() {
    uint32_t c = 0;
    const std::span<const uint32_t> runs = CombiningClassRuns();
    for (size_t i = 0; i < runs.size(); i += 3) {
      c += runs[i];
      for (uint32_t n = runs[i + 1]; n > 0; --n, ++c) {
        combining[c] = static_cast<uint8_t>(runs[i + 2]);
        active.set(c);
      }
    }
    c = 0;
    const std::span<const uint32_t> table = CanonicalDecompositions();
    for (size_t i = 0; i < table.size(); i += 3) {
      const uint32_t first = table[i + 1], second = table[i + 2];
      c += table[i] / 2;
      decompositions[c] = {first, second};
      if (table[i] % 2 == 1) {
        compositions[uint64_t{first} << 32 | second] = c;
        active.set(second);
      } else {
        active.set(c);
      }
    }
    for (uint32_t v = kVBase; v < kVBase + kVCount; ++v) active.set(v);
    for (uint32_t t = kTBase + 1; t < kTBase + kTCount; ++t) active.set(t);
  }
};

class Normalizer {
 public:
  Normalizer() : tables_(Tables::Get()) {}

  // Appends the stretch of characters in form C: decomposed, ordered, composed.
  void Append(absl::string_view stretch, std::string& out) {
    chars_.clear();
    while (!stretch.empty()) {
      const DecodedChar c = DecodeUtf8(stretch);
      Decompose(c.code_point);
      stretch.remove_prefix(c.size);
    }
    Order();
    Compose();
    for (const Char& c : chars_) AppendUtf8(c.code_point, out);
  }

 private:
  struct Char {
    uint32_t code_point;
    uint8_t combining;
  };

  void Decompose(uint32_t c) {
    if (c - kSBase < kSCount) {
      const uint32_t s = c - kSBase;
      chars_.push_back({kLBase + s / (kVCount * kTCount), 0});
      chars_.push_back({kVBase + s % (kVCount * kTCount) / kTCount, 0});
      if (s % kTCount != 0) chars_.push_back({kTBase + s % kTCount, 0});
      return;
    }
    if (const auto found = tables_.decompositions.find(c); found != tables_.decompositions.end()) {
      Decompose(found->second.first);
      if (found->second.second != 0) Decompose(found->second.second);
      return;
    }
    const auto found = tables_.combining.find(c);
    chars_.push_back({c, found == tables_.combining.end() ? uint8_t{0} : found->second});
  }

  void Order() {
    for (auto begin = chars_.begin(); begin != chars_.end();) {
      const auto is_starter = [](const Char& c) { return c.combining == 0; };
      begin = std::find_if_not(begin, chars_.end(), is_starter);
      const auto end = std::find_if(begin, chars_.end(), is_starter);
      std::stable_sort(begin, end, [](const Char& a, const Char& b) { return a.combining < b.combining; });
      begin = end;
    }
  }

  // 0 if the two do not compose.
  uint32_t Composite(uint32_t first, uint32_t second) const {
    if (first - kLBase < kLCount && second - kVBase < kVCount)
      return kSBase + ((first - kLBase) * kVCount + (second - kVBase)) * kTCount;
    if (first - kSBase < kSCount && (first - kSBase) % kTCount == 0 && second - kTBase - 1 < kTCount - 1)
      return first + (second - kTBase);
    const auto found = tables_.compositions.find(uint64_t{first} << 32 | second);
    return found == tables_.compositions.end() ? 0 : found->second;
  }

  // Joins each character to the last starter before it, unless one of the same or a higher class lies
  // between.
  void Compose() {
    size_t size = 0, starter = 0;
    bool has_starter = false;
    for (const Char c : chars_) {
      const bool adjacent = has_starter && size == starter + 1;
      const bool blocked = !has_starter || (!adjacent && chars_[size - 1].combining >= c.combining);
      if (const uint32_t joined = blocked ? 0 : Composite(chars_[starter].code_point, c.code_point); joined != 0) {
        chars_[starter].code_point = joined;
        continue;
      }
      if (c.combining == 0) {
        has_starter = true;
        starter = size;
      }
      chars_[size++] = c;
    }
    chars_.resize(size);
  }

  const Tables& tables_;
  std::vector<Char> chars_;
};

}  // namespace

absl::string_view NormalizeNfc(absl::string_view text, std::string& scratch) {
  const Tables& tables = Tables::Get();
  Normalizer normalizer;
  scratch.clear();
  size_t copied = 0;    // of the text, as is or normalized, in scratch
  size_t boundary = 0;  // the last character that is not active; active ones may join it
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const DecodedChar c = byte < 0x80 ? DecodedChar{byte, 1} : DecodeUtf8(text.substr(i));
    if (c.code_point > kMaxCodePoint || !tables.active[c.code_point]) {
      boundary = c.code_point > kMaxCodePoint ? i + 1 : i;
      i += c.size;
      continue;
    }
    size_t end = i + c.size;
    while (end < text.size()) {
      const DecodedChar next = DecodeUtf8(text.substr(end));
      if (next.code_point > kMaxCodePoint || !tables.active[next.code_point]) break;
      end += next.size;
    }
    scratch.append(text.data() + copied, boundary - copied);
    normalizer.Append(text.substr(boundary, end - boundary), scratch);
    copied = boundary = i = end;
  }
  if (copied == 0) return text;
  scratch.append(text.data() + copied, text.size() - copied);
  return scratch;
}

}  // namespace jevons
