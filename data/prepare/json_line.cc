#include "data/prepare/json_line.h"

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "data/tokenizer/unicode.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr size_t kMostNames = 12;  // of fields in a message

absl::string_view TypeName(char first) {
  switch (first) {
    case '{': return "an object";
    case '[': return "an array";
    case '"': return "a string";
    case 't':
    case 'f': return "a boolean";
    case 'n': return "null";
    default: return "a number";
  }
}

class Scanner {
 public:
  explicit Scanner(absl::string_view text) : text_(text) {}

  size_t position() const { return at_; }
  bool AtEnd() const { return at_ == text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  absl::string_view From(size_t begin) const { return text_.substr(begin, at_ - begin); }

  void SkipSpaces() {
    while (!AtEnd() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
  }
  bool Consume(char c) {
    if (AtEnd() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  absl::Status Bad(absl::string_view expected) const {
    if (AtEnd()) {
      const absl::string_view shown = absl::StripTrailingAsciiWhitespace(text_);
      const bool pretty = absl::EndsWith(shown, "{") || absl::EndsWith(shown, "[") || absl::EndsWith(shown, ",");
      return IntegrityError(absl::StrCat("not valid JSON: the line ends where ", expected, " is expected",
                                         pretty ? "; each object must stand on one line, as `jq -c .` writes it" : ""));
    }
    const auto byte = static_cast<unsigned char>(text_[at_]);
    const std::string found = absl::ascii_isprint(byte) ? absl::StrFormat("'%c'", byte)
                              : byte == 0               ? "a NUL byte, as a crash leaves them,"
                                                        : absl::StrFormat("byte 0x%02X", byte);
    return IntegrityError(absl::StrFormat("not valid JSON: byte %d: %s where %s is expected", at_ + 1, found, expected));
  }

  // A string, from its opening quotation mark; `contents` are the bytes between the marks as they stand.
  absl::Status String(absl::string_view& contents) {
    if (!Consume('"')) return Bad("a string");
    const size_t begin = at_;
    while (true) {
      if (AtEnd()) return Bad("the end of a string");
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') break;
      if (c < 0x20) return Bad("a character of a string (control characters are written as \\u00XX)");
      ++at_;
      if (c == '\\') JEVONS_RETURN_IF_ERROR(Escape());
    }
    contents = text_.substr(begin, at_ - begin);
    ++at_;
    return absl::OkStatus();
  }

  // Any value; of nested ones only the form is looked at.
  absl::Status Value() {
    std::string closers;  // of the arrays and objects that are open
    absl::string_view ignored;
    while (true) {
      SkipSpaces();
      const char c = Peek();
      if (c == '{' || c == '[') {
        ++at_;
        closers += c == '{' ? '}' : ']';
        SkipSpaces();
        if (!Consume(closers.back())) {
          if (c == '{') JEVONS_RETURN_IF_ERROR(Key(ignored));
          continue;
        }
        closers.pop_back();
      } else if (c == '"') {
        JEVONS_RETURN_IF_ERROR(String(ignored));
      } else {
        JEVONS_RETURN_IF_ERROR(Literal());
      }
      // Behind a value.
      while (true) {
        if (closers.empty()) return absl::OkStatus();
        SkipSpaces();
        if (Consume(',')) break;
        if (!Consume(closers.back())) return Bad(closers.back() == '}' ? "',' or '}'" : "',' or ']'");
        closers.pop_back();
      }
      if (closers.back() == '}') JEVONS_RETURN_IF_ERROR(Key(ignored));
    }
  }

  // A key and its colon.
  absl::Status Key(absl::string_view& contents) {
    SkipSpaces();
    JEVONS_RETURN_IF_ERROR(String(contents));
    SkipSpaces();
    return Consume(':') ? absl::OkStatus() : Bad("':'");
  }

 private:
  absl::Status Escape() {
    const char c = Peek();
    if (AtEnd() || absl::string_view("\"\\/bfnrtu").find(c) == absl::string_view::npos) return Bad("one of \"\\/bfnrtu");
    ++at_;
    for (int i = 0; c == 'u' && i < 4; ++i, ++at_) {
      if (AtEnd() || !absl::ascii_isxdigit(static_cast<unsigned char>(text_[at_]))) return Bad("a hexadecimal digit");
    }
    return absl::OkStatus();
  }

  absl::Status Literal() {
    for (const absl::string_view word : {"true", "false", "null", "NaN", "Infinity", "-Infinity"}) {
      if (!absl::StartsWith(text_.substr(at_), word)) continue;
      at_ += word.size();
      return absl::OkStatus();
    }
    return Number();
  }

  absl::Status Number() {
    Consume('-');
    if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) return Bad("a value");
    if (!Consume('0')) SkipDigits();
    if (Consume('.')) JEVONS_RETURN_IF_ERROR(Digits());
    if (Consume('e') || Consume('E')) {
      if (!Consume('+')) Consume('-');
      JEVONS_RETURN_IF_ERROR(Digits());
    }
    return absl::OkStatus();
  }
  absl::Status Digits() {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) return Bad("a digit");
    SkipDigits();
    return absl::OkStatus();
  }
  void SkipDigits() {
    while (absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) ++at_;
  }

  absl::string_view text_;
  size_t at_ = 0;
};

uint32_t Hex4(absl::string_view digits) {
  uint32_t value = 0;
  for (const char c : digits.substr(0, 4)) {
    value = value << 4 | (absl::ascii_isdigit(c) ? static_cast<uint32_t>(c - '0') : (static_cast<uint32_t>(c) | 0x20) - 'a' + 10);
  }
  return value;
}

// A string's characters from its contents, whose escapes are well formed. Nothing if there is half a surrogate pair, which `half`
// then is.
std::optional<std::string> Unescape(absl::string_view contents, absl::string_view* half) {
  std::string out;
  out.reserve(contents.size());
  while (true) {
    const size_t plain = std::min(contents.find('\\'), contents.size());
    out.append(contents.data(), plain);
    contents.remove_prefix(plain);
    if (contents.empty()) return out;
    constexpr absl::string_view kNames = "bfnrt", kValues = "\b\f\n\r\t";
    const char c = contents[1];
    if (c != 'u') {
      const size_t named = kNames.find(c);
      out += named == absl::string_view::npos ? c : kValues[named];
      contents.remove_prefix(2);
      continue;
    }
    uint32_t code_point = Hex4(contents.substr(2));
    if (code_point >= 0xD800 && code_point <= 0xDFFF) {
      const bool pair = code_point < 0xDC00 && absl::StartsWith(contents.substr(6), "\\u");
      const uint32_t low = pair ? Hex4(contents.substr(8)) : 0;
      if (low < 0xDC00 || low > 0xDFFF) {
        *half = contents.substr(0, 6);
        return std::nullopt;
      }
      code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
      contents.remove_prefix(6);
    }
    contents.remove_prefix(6);
    AppendUtf8(code_point, out);
  }
}

bool IsField(absl::string_view key, absl::string_view field) {
  if (key.find('\\') == absl::string_view::npos) return key == field;
  absl::string_view half;
  return Unescape(key, &half) == field;
}

absl::Status NoField(absl::string_view field, std::vector<absl::string_view> names) {
  std::string list = absl::StrJoin(names.begin(), names.begin() + std::min(names.size(), kMostNames), ", ",
                                   [](std::string* out, absl::string_view name) { absl::StrAppend(out, "\"", name, "\""); });
  if (names.size() > kMostNames) absl::StrAppend(&list, " and ", names.size() - kMostNames, " more");
  return IntegrityError(
      absl::StrFormat("no field \"%s\"; the object has %s", field, names.empty() ? "none" : ReplaceInvalidUtf8(list)));
}

}  // namespace

absl::StatusOr<std::string> JsonLineField(absl::string_view line, absl::string_view field) {
  absl::ConsumePrefix(&line, kByteOrderMark);
  Scanner scanner(line);
  scanner.SkipSpaces();
  const size_t begin = scanner.position();
  const bool object = scanner.Consume('{');
  std::optional<absl::string_view> contents;
  std::vector<absl::string_view> names;
  if (!object) JEVONS_RETURN_IF_ERROR(scanner.Value());
  scanner.SkipSpaces();
  bool more = object && !scanner.Consume('}');
  while (more) {
    absl::string_view key;
    JEVONS_RETURN_IF_ERROR(scanner.Key(key));
    names.push_back(key);
    scanner.SkipSpaces();
    if (!IsField(key, field)) {
      JEVONS_RETURN_IF_ERROR(scanner.Value());
    } else {
      if (contents) return IntegrityError(absl::StrFormat("field \"%s\" is given twice", field));
      if (scanner.Peek() != '"') {
        const char first = scanner.Peek();
        JEVONS_RETURN_IF_ERROR(scanner.Value());
        return IntegrityError(absl::StrFormat("field \"%s\" is %s, not a string", field, TypeName(first)));
      }
      contents.emplace();
      JEVONS_RETURN_IF_ERROR(scanner.String(*contents));
    }
    scanner.SkipSpaces();
    more = scanner.Consume(',');
    if (!more && !scanner.Consume('}')) return scanner.Bad("',' or '}'");
  }
  scanner.SkipSpaces();
  if (!scanner.AtEnd()) return scanner.Bad("the end of the line");
  if (!object) {
    return IntegrityError(
        absl::StrFormat("a JSON object is expected, not %s%s", TypeName(line[begin]),
                        line[begin] == '[' ? "; write an array's objects one a line, as `jq -c '.[]'` does" : ""));
  }
  if (!contents) return NoField(field, std::move(names));
  if (const size_t bad = FirstInvalidUtf8(*contents); bad < contents->size()) {
    return IntegrityError(
        absl::StrFormat("field \"%s\": byte %d of the line (0x%02X) is not UTF-8; convert the file to UTF-8 first, for "
                        "example with iconv",
                        field, contents->data() + bad - line.data() + 1, static_cast<unsigned char>((*contents)[bad])));
  }
  absl::string_view half;
  std::optional<std::string> text = Unescape(*contents, &half);
  if (!text) {
    return IntegrityError(absl::StrFormat("field \"%s\": %s is half of a surrogate pair, which is no character", field, half));
  }
  return *std::move(text);
}

}  // namespace jevons
