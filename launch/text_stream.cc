#include "launch/text_stream.h"

#include <algorithm>

#include "data/tokenizer/unicode.h"

namespace jevons {
namespace {

// Bytes at the end that may become a character.
size_t BegunCharacter(absl::string_view bytes) {
  for (size_t n = 1; n <= std::min<size_t>(3, bytes.size()); ++n) {
    const absl::string_view tail = bytes.substr(bytes.size() - n);
    const auto lead = static_cast<unsigned char>(tail[0]);
    if ((lead & 0xC0) == 0x80) continue;
    const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (size <= n) return 0;
    // What may follow some lead bytes is a part of 0x80 to 0xBF, and always one of its ends.
    for (const char fill : {'\x80', '\xBF'})
      if (DecodeUtf8(std::string(tail) + std::string(size - n, fill)).code_point != kInvalidByte) return n;
    return 0;
  }
  return 0;
}

}  // namespace

std::string TextStream::Push(absl::string_view bytes) {
  if (stopped_) return "";
  bytes_.append(bytes.data(), bytes.size());
  const size_t whole = bytes_.size() - BegunCharacter(bytes_);
  text_ += ReplaceInvalidUtf8(absl::string_view(bytes_).substr(0, whole));
  bytes_.erase(0, whole);
  return Release();
}

std::string TextStream::Release() {
  size_t end = std::string::npos, begin = 0, held = 0;
  for (const std::string& stop : stops_) {
    const size_t at = text_.find(stop);
    if (at != std::string::npos && at + stop.size() < end) {
      end = at + stop.size();
      begin = at;
    }
    for (size_t n = std::min(stop.size() - 1, text_.size()); n > held; --n)
      if (text_.compare(text_.size() - n, n, stop, 0, n) == 0) held = n;
  }
  stopped_ = end != std::string::npos;
  const size_t shown = stopped_ ? begin : text_.size() - held;
  std::string out = text_.substr(0, shown);
  text_.erase(0, stopped_ ? text_.size() : shown);
  return out;
}

std::string TextStream::Finish() {
  if (stopped_) return "";
  std::string out = text_ + ReplaceInvalidUtf8(bytes_);
  text_.clear();
  bytes_.clear();
  return out;
}

}  // namespace jevons
