// Which documents are for validation: a function of the seed and the document's number alone.
#ifndef JEVONS_DATA_PREPARE_SPLIT_H_
#define JEVONS_DATA_PREPARE_SPLIT_H_

#include <cstdint>

namespace jevons {

class ValidationSplit {
 public:
  // Document d is for validation if its random number, uniform in [0, 1), is below `fraction`. With at least
  // two documents and a fraction above 0, neither side is left empty: the document with the lowest number
  // goes to validation, or that with the highest to training. A single document is always for training.
  ValidationSplit(int64_t documents, double fraction, uint64_t seed);

  bool IsValidation(int64_t document) const;
  bool has_validation() const { return has_validation_; }

 private:
  double fraction_;
  uint64_t seed_;
  bool has_validation_;
  int64_t forced_validation_ = -1;
  int64_t forced_training_ = -1;
};

}  // namespace jevons

#endif  // JEVONS_DATA_PREPARE_SPLIT_H_
