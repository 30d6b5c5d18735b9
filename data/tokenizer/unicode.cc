#include "data/tokenizer/unicode.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer/unicode_table.h"
#include "kernels/base/check.h"

namespace jevons {
namespace {

constexpr int64_t kPageSize = 256;

std::vector<CharClass> ExpandRuns() {
  std::vector<CharClass> classes;
  classes.reserve(kMaxCodePoint + 1);
  for (const uint32_t run : CharClassRuns()) classes.insert(classes.end(), run >> 4, CharClass(run & 15));
  JEVONS_CHECK(classes.size() == kMaxCodePoint + 1);
  return classes;
}

}  // namespace

CharClassTable::CharClassTable() {
  const std::vector<CharClass> all = ExpandRuns();
  std::map<std::string, uint16_t> known;
  std::string pages;
  for (size_t i = 0; i < page_.size(); ++i) {
    const std::string page(reinterpret_cast<const char*>(&all[i * kPageSize]), kPageSize);
    const auto [entry, is_new] = known.try_emplace(page, static_cast<uint16_t>(known.size()));
    if (is_new) pages += page;
    page_[i] = entry->second;
  }
  classes_ = std::make_unique<CharClass[]>(pages.size());
  std::memcpy(classes_.get(), pages.data(), pages.size());
}

const CharClassTable& CharClassTable::Get() {
  static const CharClassTable table;
  return table;
}

DecodedChar DecodeUtf8(absl::string_view text) {
  const auto byte = [text](size_t i) -> uint32_t {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;  // 0 is no continuation byte
  };
  const auto continues = [&byte](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead >= 0xC2 && lead < 0xE0 && continues(1)) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if ((lead & 0xF0) == 0xE0 && continues(1) && continues(2)) {
    const uint32_t c = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if (c >= 0x800 && (c < 0xD800 || c > 0xDFFF)) return {c, 3};
  }
  if ((lead & 0xF8) == 0xF0 && continues(1) && continues(2) && continues(3)) {
    const uint32_t c = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    if (c >= 0x10000 && c <= kMaxCodePoint) return {c, 4};
  }
  return {kInvalidByte, 1};
}

size_t FirstInvalidUtf8(absl::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    uint64_t eight;
    if (i + sizeof(eight) <= text.size()) {  // eight ASCII bytes at a time
      std::memcpy(&eight, text.data() + i, sizeof(eight));
      if ((eight & 0x8080808080808080u) == 0) {
        i += sizeof(eight);
        continue;
      }
    }
    const DecodedChar c = DecodeUtf8(text.substr(i));
    if (c.code_point == kInvalidByte) return i;
    i += c.size;
  }
  return text.size();
}

namespace {

// The bytes of the ill-formed part at the front of `text`: the longest beginning of a character that is
// there, at least 1.
size_t MaximalSubpart(absl::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t whole = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4) return 1;
  size_t size = 1;
  for (; size < whole && size < text.size(); ++size) {
    const auto byte = static_cast<unsigned char>(text[size]);
    if ((byte & 0xC0) != 0x80) break;
    if (size == 1 && ((lead == 0xE0 && byte < 0xA0) || (lead == 0xED && byte > 0x9F) || (lead == 0xF0 && byte < 0x90) ||
                      (lead == 0xF4 && byte > 0x8F))) {
      break;
    }
  }
  return size;
}

}  // namespace

std::string ReplaceInvalidUtf8(absl::string_view text) {
  std::string out;
  while (true) {
    const size_t valid = FirstInvalidUtf8(text);
    out.append(text.data(), valid);
    text.remove_prefix(valid);
    if (text.empty()) return out;
    AppendUtf8(0xFFFD, out);
    text.remove_prefix(MaximalSubpart(text));
  }
}

void AppendUtf8(uint32_t c, std::string& out) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), tail(0)};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
  }
}

}  // namespace jevons
