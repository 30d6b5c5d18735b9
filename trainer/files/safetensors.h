// The safetensors format: u64 length, a JSON header, tensors end to end. Its rules are checked before anything is
// allocated: a header of at most 100 MB, objects only where the format has them, no duplicate keys, tensors that tile the
// data without holes or overlaps, sizes that fit their shapes, and a file that ends where the last tensor ends.
#ifndef JEVONS_TRAINER_FILES_SAFETENSORS_H_
#define JEVONS_TRAINER_FILES_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "trainer/files/file_system.h"

namespace jevons {

// The format's names of the types that are read or written here; a header may have others.
inline constexpr char kStF32[] = "F32", kStBF16[] = "BF16", kStF16[] = "F16", kStF8E4M3[] = "F8_E4M3", kStF8E8M0[] = "F8_E8M0",
                      kStI64[] = "I64";

struct SafetensorsSpec {
  std::string name;
  std::string dtype;           // as the format spells it
  std::vector<int64_t> shape;  // row-major; empty: one element
};

struct SafetensorsEntry : SafetensorsSpec {
  int64_t elements = 0;
  int64_t begin = 0, end = 0;  // bytes from the start of the data
};

// "F32 [3, 4]".
std::string DescribeTensor(const SafetensorsSpec& spec);

class SafetensorsFile {
 public:
  // IntegrityError, naming the file and what is wrong with it, for whatever is not exactly the format, and what it is if it is a
  // Git LFS pointer or another known kind of file.
  static absl::StatusOr<SafetensorsFile> Open(FileSystem& files, const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }  // by rising name
  const SafetensorsEntry* Find(absl::string_view name) const;                // nullptr: there is none
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Bytes [begin, begin + bytes.size()) of a tensor. REQUIRES: they are within it.
  absl::Status Read(const SafetensorsEntry& entry, int64_t begin, std::span<std::byte> bytes);

 private:
  SafetensorsFile() = default;
  std::string path_;
  std::unique_ptr<File> file_;
  int64_t data_begin_ = 0;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

// Writes a file front to back: what is in it is said first, then the bytes of all tensors come in the order of order().
//
//   JEVONS_ASSIGN_OR_RETURN(auto writer, SafetensorsWriter::Create(files, "out.safetensors", {{"loss", kStF32, {1}}}));
//   for (const SafetensorsSpec& spec : writer.order()) JEVONS_RETURN_IF_ERROR(writer.Append(bytes of spec));  // in any pieces
//   JEVONS_RETURN_IF_ERROR(writer.Finish());
//
// It writes PATH.partial, which Finish makes durable and renames to PATH. A writer destroyed before removes it.
class SafetensorsWriter {
 public:
  // REQUIRES: known types, no name twice. UsageError where `path` is a folder, or the header beyond the format's limit.
  static absl::StatusOr<SafetensorsWriter> Create(FileSystem& files, const std::string& path,
                                                  std::vector<SafetensorsSpec> tensors,
                                                  const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  SafetensorsWriter(SafetensorsWriter&&) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  ~SafetensorsWriter();

  // As the format's own writer has it: by falling alignment of the type, then by name.
  const std::vector<SafetensorsSpec>& order() const { return order_; }
  absl::Status Append(std::span<const std::byte> bytes);
  // REQUIRES: exactly the bytes of all tensors have been appended.
  absl::Status Finish();

 private:
  SafetensorsWriter() = default;
  std::string PartialPath() const;
  FileSystem* files_ = nullptr;
  std::string path_;
  std::unique_ptr<File> file_;  // null once finished or moved from
  std::vector<SafetensorsSpec> order_;
  int64_t bytes_left_ = 0;
};

// The bytes of a tensor. REQUIRES: a known type, and whole bytes.
int64_t SafetensorsBytes(const SafetensorsSpec& spec);

}  // namespace jevons

#endif  // JEVONS_TRAINER_FILES_SAFETENSORS_H_
