#include "data/tokenizer/byte_alphabet.h"

#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

constexpr uint32_t kFirstSubstitute = 0x100;
constexpr uint32_t kSubstitutes = 68;

constexpr bool StandsForItself(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<uint32_t, 256> char_of_byte;
  std::array<uint8_t, kFirstSubstitute + kSubstitutes> byte_of_char;
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet{};
  uint32_t substitute = kFirstSubstitute;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const uint32_t c = StandsForItself(byte) ? byte : substitute++;
    alphabet.char_of_byte[byte] = c;
    alphabet.byte_of_char[c] = static_cast<uint8_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string BytesToAlphabet(absl::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    const uint32_t c = kAlphabet.char_of_byte[static_cast<unsigned char>(byte)];
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else {
      text += static_cast<char>(0xC0 | c >> 6);
      text += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
  return text;
}

std::optional<std::string> AlphabetToBytes(absl::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const DecodedChar c = DecodeUtf8(text);
    const bool known =
        StandsForItself(c.code_point) || (c.code_point >= kFirstSubstitute && c.code_point < kFirstSubstitute + kSubstitutes);
    if (!known) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte_of_char[c.code_point]);
    text.remove_prefix(c.size);
  }
  return bytes;
}

std::array<uint8_t, 256> BytesInAlphabetOrder() {
  std::array<uint8_t, 256> order;
  size_t n = 0;
  for (uint32_t c = 0; c < kAlphabet.byte_of_char.size(); ++c) {
    if (StandsForItself(c) || c >= kFirstSubstitute) order[n++] = kAlphabet.byte_of_char[c];
  }
  return order;
}

}  // namespace jevons
