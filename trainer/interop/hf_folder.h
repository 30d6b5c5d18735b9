// The tensors in the folder of a published checkpoint, however they are spread over files.
#ifndef JEVONS_TRAINER_INTEROP_HF_FOLDER_H_
#define JEVONS_TRAINER_INTEROP_HF_FOLDER_H_

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "trainer/files/safetensors.h"

namespace jevons {

inline constexpr char kHfIndexName[] = "model.safetensors.index.json";
inline constexpr char kScaleSuffix[] = "_scale_inv";  // after the name of a weight in FP8: its scales, one per block of 128x128

class HfFolder {
 public:
  // All *.safetensors in the folder; with model.safetensors.index.json, exactly the files that it names and the tensors that it
  // lists. Files whose names begin with a dot are passed over with a warning. IntegrityError, with all that is wrong at once,
  // where index and files disagree, a name leaves the folder, or a tensor is there twice.
  static absl::StatusOr<HfFolder> Open(FileSystem& files, const std::string& path);

  const std::string& path() const { return path_; }
  std::vector<std::string> names() const;  // rising
  bool Has(const std::string& name) const { return tensors_.find(name) != tensors_.end(); }
  const SafetensorsEntry& Entry(const std::string& name) const;  // REQUIRES: Has(name)

  // Why the tensor cannot be read as FP32 with this shape, or "". Readable are FP32, BF16, FP16, and FP8 with scales in FP32, BF16
  // or E8M0; FP32 holds the numbers of all of them exactly.
  std::string Refusal(const std::string& name, const std::vector<int64_t>& shape) const;

  // Gives all elements in order to `sink`, in pieces of at most a few million. REQUIRES: Refusal() is "". IntegrityError
  // naming the element where one is NaN or infinite; else what the sink or the disk says.
  using Sink = std::function<absl::Status(std::span<const float>)>;
  absl::Status Stream(const std::string& name, const Sink& sink);

  // Bytes of a tensor as they are stored. REQUIRES: Has(name), and they are within it.
  absl::Status ReadBytes(const std::string& name, int64_t begin, std::span<std::byte> bytes);

  // Whether two tensors of one type and shape have the same bytes.
  absl::StatusOr<bool> Same(const std::string& a, const std::string& b);

 private:
  struct Place {
    size_t file;
    const SafetensorsEntry* entry;
  };
  explicit HfFolder(std::string path) : path_(std::move(path)) {}
  absl::Status OpenIndexed(FileSystem& files, const std::string& index_path);
  absl::Status OpenAll(FileSystem& files);
  absl::Status AddFile(FileSystem& files, const std::string& name, std::vector<std::string>& problems);
  absl::Status StreamFp8(const std::string& name, const Place& place, const Sink& sink);

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Place> tensors_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_HF_FOLDER_H_
