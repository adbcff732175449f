"""A backward pass through two layers as text: what several processes do in each step."""


def two_layers(width: int, rows: int = 64) -> str:
    """Each weight's gradient is reduced, the first one while the second is computed; then both are
    updated."""
    size, weight, batch = width * width, f"f32[{width},{width}]", f"f32[{rows},{width}]"
    how = 'kind="all_reduce", reduction="sum", group=0, root=0'
    return f"""graph @step(%x: {batch}, %v: {weight} param, %w: {weight} param,
    %g: {batch}) -> ({weight} = %v, {weight} = %w) {{
  %0: {batch} = contract(%x, %v; equation="mk,nk->mn")
  %1: {batch} = tanh(%0)
  %2: {weight} = contract(%g, %1; equation="mn,mk->nk")
  %3: {batch} = contract(%g, %w; equation="mn,nk->mk")
  %4: {batch} = mul(%3, %1)
  %5: {weight} = contract(%4, %x; equation="mn,mk->nk")
  %6: i64[] = constant(value=0, dtype=i64)
  %7: i64[] = collective_start(%6, %2; {how})
  %8: f32[{size}] = collective_wait(%7; shape=({size}), dtype=f32)
  %9: i64[] = collective_start(%7, %5; {how})
  %10: f32[{size}] = collective_wait(%9; shape=({size}), dtype=f32)
  %11: {weight} = reshape(%8; shape=({width},{width}))
  %12: {weight} = reshape(%10; shape=({width},{width}))
  %13: {weight} = sub(%w, %11)
  %14: {weight} = sub(%v, %12)
  return %14, %13
}}"""
