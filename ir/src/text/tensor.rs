//! Tensors as text: `f32[2,2] [1, 2.5, nan, -inf]`.

use super::element;
use super::lex::{Kind, tokens};
use super::parse::Cursor;
use crate::dtype::DType;
use crate::op::TensorType;
use crate::tensor::{Tensor, numel};

/// All elements of a tensor, exactly.
pub fn print_tensor(tensor: &Tensor) -> String {
    let shape = tensor.shape.iter().map(|d| crate::Dim::from(*d)).collect();
    let elements = tensor.data.chunks(tensor.dtype.size().max(1)).map(|e| element::print(tensor.dtype, e));
    format!("{} [{}]", TensorType::new(tensor.dtype, shape), elements.collect::<Vec<_>>().join(", "))
}

/// The inverse of [`print_tensor`].
pub fn parse_tensor(text: &str) -> Result<Tensor, String> {
    let mut c = Cursor::new(tokens(text).map_err(|(_, message)| message)?);
    let ty = c.ty()?;
    let shape = ty.concrete().ok_or_else(|| format!("the type {ty} of a tensor is not concrete"))?;
    if ty.dtype == DType::Str {
        return Err("tensors hold no strings".into());
    }
    let elements = c.list(|c| element::parse(ty.dtype, &c.element_text()?))?;
    if *c.peek() != Kind::End {
        return Err(format!("unexpected {}", c.found()));
    }
    let count = elements.len();
    let tensor = Tensor::from_bytes(ty.dtype, shape, elements.concat().into());
    tensor.filter(|t| numel(&t.shape) == Some(count)).ok_or_else(|| format!("{count} elements for {ty}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back() {
        for text in
            ["f32[2,2] [1, 2.5, nan, -inf]", "i64[] [-3]", "bool[0] []", "f16[1] [0x7e01]", "u4[2] [15, 0]"]
        {
            assert_eq!(print_tensor(&parse_tensor(text).unwrap()), text);
        }
        assert!(parse_tensor("f32[2] [1]").is_err());
        assert!(parse_tensor("u4[1] [16]").is_err());
    }
}
