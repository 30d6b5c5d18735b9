#include "trainer/files/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"
#include "kernels/base/foreign_file.h"
#include "kernels/base/log.h"

namespace jevons {
namespace {

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr char kMetadata[] = "__metadata__";

// In the order of the format's own list, whose reverse is that of its writer.
struct Type {
  absl::string_view name;
  int64_t bits;
};
constexpr Type kTypes[] = {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
                           {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
                           {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
                           {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};

const Type* FindType(absl::string_view name) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const Type& type) { return type.name == name; });
  return found == std::end(kTypes) ? nullptr : found;
}

// Collects the header's tensors. Every rule that one JSON value can break by itself is checked where the value is met; `error`
// says which. Nothing is kept that the header's own bytes do not pay for.
class HeaderParser : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override {  // "__metadata__": null, which the format's own library takes for none
    if (depth_ == 1 && in_metadata_)
      return !std::exchange(has_metadata_, true) || Fail(absl::StrCat(kMetadata, " is given twice"));
    return Unexpected("null");
  }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override { return Unexpected(absl::StrCat(value)); }
  bool number_float(number_float_t, const string_t& text) override { return Unexpected(text); }
  bool binary(binary_t&) override { return Unexpected("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 2 || !in_array_) return Unexpected(absl::StrCat(value));
    if (value > uint64_t{INT64_MAX}) return Fail(absl::StrFormat("%s: %s has the number %d, beyond 2^63", Tensor(), key_, value));
    (key_ == "shape" ? entries.back().shape : offsets_).push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (depth_ != 2 || in_array_) return Unexpected("a string");
    if (in_metadata_)
      return metadata.try_emplace(key_, value).second || Fail(absl::StrCat(kMetadata, ": \"", key_, "\" is given twice"));
    if (key_ != "dtype") return Unexpected("a string");
    entries.back().dtype = value;
    return true;
  }

  bool start_object(std::size_t) override {
    if (in_array_ || depth_ == 2) return Unexpected("an object");
    if (++depth_ == 1) return true;
    if (in_metadata_) return !std::exchange(has_metadata_, true) || Fail(absl::StrCat(kMetadata, " is given twice"));
    offsets_.clear();
    seen_.clear();
    entries.emplace_back();
    entries.back().name = name_;
    return true;
  }

  bool key(string_t& value) override {
    if (depth_ == 1) {
      name_ = value;
      in_metadata_ = name_ == kMetadata;
      return true;
    }
    key_ = value;
    if (in_metadata_) return true;
    if (key_ != "dtype" && key_ != "shape" && key_ != "data_offsets")
      return Fail(absl::StrCat(Tensor(), ": unknown key \"", key_, "\""));
    if (std::find(seen_.begin(), seen_.end(), key_) != seen_.end())
      return Fail(absl::StrCat(Tensor(), ": \"", key_, "\" is given twice"));
    seen_.push_back(key_);
    return true;
  }

  bool end_object() override {
    if (--depth_ != 1 || in_metadata_) return true;
    if (seen_.size() != 3) return Fail(absl::StrCat(Tensor(), ": needs dtype, shape and data_offsets"));
    if (offsets_.size() != 2) return Fail(absl::StrFormat("%s: data_offsets has %d numbers, not 2", Tensor(), offsets_.size()));
    return Complete(entries.back());
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || in_array_ || key_ == "dtype") return Unexpected("an array");
    in_array_ = true;
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Fail(absl::StrFormat("not JSON at byte %d of the header", position));
  }

 private:
  std::string Tensor() const { return absl::StrCat("tensor \"", name_, "\""); }
  bool Fail(std::string what) {
    if (error.empty()) error = std::move(what);
    return false;
  }
  bool Unexpected(const std::string& what) {
    if (depth_ == 0) return Fail(absl::StrCat("is ", what, ", not an object"));
    if (depth_ == 1) return Fail(absl::StrCat("\"", name_, "\" is ", what, ", not an object"));
    return Fail(
        absl::StrCat("\"", name_, "\": \"", key_, "\" is ", what, " or contains it, which the format does not have there"));
  }

  bool Complete(SafetensorsEntry& entry) {
    const Type* type = FindType(entry.dtype);
    if (type == nullptr) return Fail(absl::StrCat(Tensor(), ": unknown dtype \"", entry.dtype, "\""));
    entry.elements = 1;
    for (const int64_t dim : entry.shape)
      if (__builtin_mul_overflow(entry.elements, dim, &entry.elements))
        return Fail(absl::StrCat(Tensor(), ": its shape overflows"));
    int64_t bits = 0;
    if (__builtin_mul_overflow(entry.elements, type->bits, &bits)) return Fail(absl::StrCat(Tensor(), ": its shape overflows"));
    if (bits % 8 != 0) return Fail(absl::StrCat(Tensor(), ": ", DescribeTensor(entry), " does not fill whole bytes"));
    const int64_t bytes = bits / 8;
    entry.begin = offsets_[0];
    entry.end = offsets_[1];
    if (entry.end < entry.begin || entry.end - entry.begin != bytes)
      return Fail(absl::StrFormat("%s: %s takes %d bytes, but data_offsets are [%d, %d]", Tensor(), DescribeTensor(entry), bytes,
                                  entry.begin, entry.end));
    return true;
  }

  int depth_ = 0;
  bool in_metadata_ = false, has_metadata_ = false, in_array_ = false;
  std::string name_, key_;
  std::vector<std::string> seen_;
  std::vector<int64_t> offsets_;
};

// Names are unique, and the tensors tile [0, data_bytes). Leaves the entries by rising name.
std::string CheckLayout(std::vector<SafetensorsEntry>& entries, int64_t data_bytes) {
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  int64_t expected = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != expected)
      return absl::StrFormat("tensor \"%s\" begins at byte %d of the data, not at %d where the one before it ends", entry.name,
                             entry.begin, expected);
    expected = entry.end;
  }
  if (expected != data_bytes)
    return absl::StrFormat("the header describes %d bytes of tensors, the file has %d%s", expected, data_bytes,
                           expected > data_bytes ? ": it is truncated" : "");
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (size_t i = 1; i < entries.size(); ++i)
    if (entries[i].name == entries[i - 1].name) return absl::StrCat("tensor \"", entries[i].name, "\" is given twice");
  return "";
}

// REQUIRES: at least kLengthBytes bytes.
uint64_t DecodeLength(absl::string_view bytes) {
  uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
  return length;
}

std::string HeaderOf(const std::vector<SafetensorsSpec>& tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  if (!metadata.empty()) header[kMetadata] = metadata;
  int64_t offset = 0;
  for (const SafetensorsSpec& spec : tensors) {
    const int64_t end = offset + SafetensorsBytes(spec);
    header.push_back({spec.name, {{"dtype", spec.dtype}, {"shape", spec.shape}, {"data_offsets", {offset, end}}}});
    offset = end;
  }
  std::string text = tensors.empty() && metadata.empty() ? "{}" : header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

std::string DescribeTensor(const SafetensorsSpec& spec) {
  return absl::StrCat(spec.dtype, " [", absl::StrJoin(spec.shape, ", "), "]");
}

int64_t SafetensorsBytes(const SafetensorsSpec& spec) {
  const Type* type = FindType(spec.dtype);
  JEVONS_CHECK(type != nullptr, "unknown dtype %s", spec.dtype.c_str());
  int64_t bits = type->bits;
  for (const int64_t dim : spec.shape) bits *= dim;
  return bits / 8;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(FileSystem& files, const std::string& path) {
  const auto broken = [&](const std::string& what) {
    return IntegrityError(absl::StrCat(path, ": ", what, "; get the file again, or from whoever wrote it"));
  };
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> info, files.Stat(path));
  if (!info) return IntegrityError(path + ": there is no such file");
  if (info->is_directory) return IntegrityError(path + ": is a folder, not a safetensors file");
  SafetensorsFile result;
  result.path_ = path;
  JEVONS_ASSIGN_OR_RETURN(result.file_, files.Open(path, OpenMode::kRead));
  std::string front(static_cast<size_t>(std::min(info->bytes, int64_t{kForeignFileBytes})), '\0');
  JEVONS_RETURN_IF_ERROR(ReadExactly(*result.file_, 0, std::as_writable_bytes(std::span(front)), path));
  const uint64_t length = info->bytes < kLengthBytes ? 0 : DecodeLength(front);
  // Only where it is none: the length of a header can have the first bytes of another kind of file.
  if (info->bytes <= kLengthBytes || front[kLengthBytes] != '{' || length > uint64_t{kMaxHeaderBytes})
    JEVONS_RETURN_IF_ERROR(RefuseForeignFile(path, front));
  if (info->bytes < kLengthBytes) return broken(absl::StrFormat("%d bytes are too few for a safetensors file", info->bytes));
  if (length > uint64_t{kMaxHeaderBytes})
    return broken(absl::StrFormat("its header claims %d bytes; the format allows %d", length, kMaxHeaderBytes));
  const auto header_bytes = static_cast<int64_t>(length);
  if (header_bytes > info->bytes - kLengthBytes)
    return broken(absl::StrFormat("its header claims %d bytes, the file has %d: it is truncated", header_bytes, info->bytes));
  std::string header(static_cast<size_t>(header_bytes), '\0');
  JEVONS_RETURN_IF_ERROR(ReadExactly(*result.file_, kLengthBytes, std::as_writable_bytes(std::span(header)), path));
  if (header.empty() || header[0] != '{') return broken("its header is not a JSON object");
  if (const size_t nul = header.find('\0'); nul != std::string::npos)  // the end of the text, to the parser
    return broken(absl::StrFormat("header: a NUL character at byte %d; only blanks may fill it up", nul));
  HeaderParser parser;
  if (!nlohmann::json::sax_parse(header, &parser)) return broken("header: " + parser.error);
  result.data_begin_ = kLengthBytes + header_bytes;
  result.entries_ = std::move(parser.entries);
  result.metadata_ = std::move(parser.metadata);
  if (const std::string what = CheckLayout(result.entries_, info->bytes - result.data_begin_); !what.empty()) return broken(what);
  return result;
}

const SafetensorsEntry* SafetensorsFile::Find(absl::string_view name) const {
  const auto found =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const SafetensorsEntry& entry, absl::string_view wanted) { return entry.name < wanted; });
  return found == entries_.end() || found->name != name ? nullptr : &*found;
}

absl::Status SafetensorsFile::Read(const SafetensorsEntry& entry, int64_t begin, std::span<std::byte> bytes) {
  const auto count = static_cast<int64_t>(bytes.size());
  JEVONS_CHECK(begin >= 0 && begin + count <= entry.end - entry.begin, "%s: bytes %lld and on of a tensor of %lld",
               entry.name.c_str(), static_cast<long long>(begin), static_cast<long long>(entry.end - entry.begin));
  return ReadExactly(*file_, data_begin_ + entry.begin + begin, bytes, path_);
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(FileSystem& files, const std::string& path,
                                                            std::vector<SafetensorsSpec> tensors,
                                                            const std::map<std::string, std::string>& metadata) {
  JEVONS_ASSIGN_OR_RETURN(const std::optional<FileInfo> there, files.Stat(path));  // an error for a device
  if (there && there->is_directory) return UsageError(path + ": is a folder; name a file");
  SafetensorsWriter writer;
  writer.files_ = &files;
  writer.path_ = path;
  for (const SafetensorsSpec& spec : tensors) {
    JEVONS_CHECK(FindType(spec.dtype) != nullptr, "unknown dtype %s", spec.dtype.c_str());
    writer.bytes_left_ += SafetensorsBytes(spec);
  }
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsSpec& a, const SafetensorsSpec& b) {
    const Type *left = FindType(a.dtype), *right = FindType(b.dtype);
    return left != right ? left > right : a.name < b.name;
  });
  std::set<absl::string_view> names;
  for (const SafetensorsSpec& spec : tensors) JEVONS_CHECK(names.insert(spec.name).second, "tensor %s twice", spec.name.c_str());
  writer.order_ = std::move(tensors);
  JEVONS_ASSIGN_OR_RETURN(writer.file_, files.Open(writer.PartialPath(), OpenMode::kWrite));
  const std::string header = HeaderOf(writer.order_, metadata);
  if (header.size() > size_t{kMaxHeaderBytes})
    return UsageError(
        absl::StrFormat("%s: its header would have %d bytes; the format allows %d", path, header.size(), kMaxHeaderBytes));
  unsigned char length[kLengthBytes];
  for (int i = 0; i < kLengthBytes; ++i) length[i] = static_cast<unsigned char>(header.size() >> (8 * i));
  JEVONS_RETURN_IF_ERROR(WriteAll(*writer.file_, std::as_bytes(std::span(length)), writer.PartialPath()));
  JEVONS_RETURN_IF_ERROR(WriteAll(*writer.file_, std::as_bytes(std::span(header)), writer.PartialPath()));
  return writer;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ == nullptr) return;
  file_.reset();
  if (const absl::Status removed = files_->Remove(PartialPath()); !removed.ok()) LogWarning(std::string(removed.message()));
}

absl::Status SafetensorsWriter::Append(std::span<const std::byte> bytes) {
  bytes_left_ -= static_cast<int64_t>(bytes.size());
  JEVONS_CHECK(bytes_left_ >= 0, "%s: more bytes than its tensors have", path_.c_str());
  return WriteAll(*file_, bytes, PartialPath());
}

absl::Status SafetensorsWriter::Finish() {
  JEVONS_CHECK(bytes_left_ == 0, "%s: %lld bytes of its tensors are missing", path_.c_str(), static_cast<long long>(bytes_left_));
  JEVONS_RETURN_IF_ERROR(file_->Fsync());
  JEVONS_RETURN_IF_ERROR(file_->Close());
  JEVONS_RETURN_IF_ERROR(files_->Rename(PartialPath(), path_));
  file_.reset();
  return files_->SyncDirectory(ParentPath(path_));
}

std::string SafetensorsWriter::PartialPath() const { return path_ + ".partial"; }

}  // namespace jevons
