"""The emulated GPU runs PTX as a GPU would, and notices what a GPU would not say."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest

from tests.emulator.build import build
from tests.emulator.process import skip_where_it_cannot_be_built
from tests.emulator.translate import UnknownPtxError, translate

WORDS = 64
FAILED, STUCK = 700, 702

HEAD = """\
.extern .shared .align 16 .b8 lr_shared[];
.visible .entry NAME(
	.param .u64 NAME_param_0
)
{
	.reg .pred 	%p<5>;
	.reg .b32 	%r<9>;
	.reg .f32 	%f<9>;
	.reg .b64 	%rd<9>;

	ld.param.u64 	%rd1, [NAME_param_0];
	cvta.to.global.u64 	%rd2, %rd1;
	mov.u32 	%r1, %tid.x;
	mov.u32 	%r2, %ctaid.x;
	mov.u32 	%r3, %ntid.x;
	mad.lo.cc.u32 	%r4, %r2, %r3, %r1;
	mul.wide.u32 	%rd3, %r4, 4;
	add.s64 	%rd4, %rd2, %rd3;
	shl.b32 	%r5, %r1, 2;
	cvt.u64.u32 	%rd5, %r5;
	mov.u64 	%rd6, lr_shared;
	add.s64 	%rd7, %rd6, %rd5;
"""
"""%rd4 is the address of the thread's word, %rd7 that of its word of shared memory."""
KERNELS = {
    "turned": """
	st.shared.u32 	[%rd7], %r4;
	bar.sync 	0;
	xor.b32 	%r6, %r5, 28;
	cvt.u64.u32 	%rd8, %r6;
	add.s64 	%rd8, %rd6, %rd8;
	ld.shared.u32 	%r7, [%rd8];
	st.global.u32 	[%rd4], %r7;
""",
    "swapped": """
	cvt.rn.f32.u32 	%f1, %r4;
	mov.u32 	%r6, 4;
	shfl.sync.bfly.b32 %f2, %f1, %r6, 31, -1;
	st.global.f32 	[%rd4], %f2;
""",
    "beyond": """
	st.global.u32 	[%rd4+256], %r4;
""",
    "beyond_shared": """
	st.shared.u32 	[%rd7+32], %r4;
""",
    "askew": """
	ld.global.v4.u32 	{%r5, %r6, %r7, %r8}, [%rd2+4];
""",
    "stale": """
	setp.ne.s32 	%p1, %r2, 0;
	@%p1 bra 	$L__BB0_1;
	st.global.u32 	[%rd2+0], %r4;
$L__BB0_1:
	bar.sync 	0;
	ld.global.u32 	%r7, [%rd2+0];
	st.global.u32 	[%rd4+128], %r7;
""",
    "left": """
	setp.eq.s32 	%p1, %r1, 3;
	@%p1 bra 	$L__BB0_1;
	bar.sync 	0;
$L__BB0_1:
	ret;
""",
    "waiting": """
$L__BB0_1:
	ld.acquire.gpu.global.u64 %rd8, [%rd2];
	setp.ne.s64 	%p1, %rd8, 77;
	@%p1 bra 	$L__BB0_1;
""",
    "counted": """
	mov.u64 	%rd8, 1;
	red.release.gpu.global.add.u64 [%rd2], %rd8;
$L__BB0_1:
	ld.acquire.gpu.global.u64 %rd8, [%rd2];
	setp.lt.u64 	%p1, %rd8, 32;
	@%p1 bra 	$L__BB0_1;
	cvt.u32.u64 	%r7, %rd8;
	st.global.u32 	[%rd4+64], %r7;
""",
}
KERNELS["unmet"] = KERNELS["turned"].replace("\tbar.sync \t0;\n", "")


def ptx(name: str) -> str:
    return f"{HEAD}{KERNELS[name]}\tret;\n\n}}\n".replace("NAME", name)


class Config(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p), ("attributes", ctypes.c_void_p), ("count", ctypes.c_uint),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    skip_where_it_cannot_be_built()
    folder = tmp_path_factory.mktemp("gpu")
    return ctypes.CDLL(str(build(folder, {name: ptx(name) for name in KERNELS})))


def run(driver: Any, name: str, blocks: int = 4, threads: int = 8) -> tuple[int, Any]:
    """The driver's answer to a launch, all blocks at once, and WORDS words that were zeros."""
    memory, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    assert driver.cuMemAllocAsync(ctypes.byref(memory), ctypes.c_size_t(4 * WORDS), None) == 0
    ctypes.memset(memory, 0, 4 * WORDS)
    driver.cuLibraryGetKernel(ctypes.byref(kernel), None, name.encode())
    given = ctypes.c_uint64(memory.value or 0)
    params = (ctypes.c_void_p * 1)(ctypes.addressof(given))
    config = Config((blocks, 1, 1), (threads, 1, 1), 4 * threads, None, None, 1)
    answer = driver.cuLaunchKernelEx(ctypes.byref(config), kernel, params, None)
    found = np.ctypeslib.as_array((ctypes.c_uint32 * WORDS).from_address(memory.value or 0)).copy()
    assert driver.cuMemFreeAsync(memory, None) == 0
    return answer, found


ITEMS = np.arange(32)


def test_threads_of_a_block_share_memory(driver: Any) -> None:
    answer, found = run(driver, "turned")
    assert answer == 0
    assert found[:32].tolist() == (ITEMS ^ 7).tolist()


def test_threads_of_a_warp_swap_values(driver: Any) -> None:
    answer, found = run(driver, "swapped")
    assert answer == 0
    assert found[:32].view(np.float32).tolist() == (ITEMS ^ 4).tolist()


def test_blocks_of_a_launch_wait_for_each_other(driver: Any) -> None:
    answer, found = run(driver, "counted")
    assert answer == 0
    assert found[0] == 32
    assert found[16:48].tolist() == [32] * 32


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("unmet", FAILED, r"shared \d+ that (thread \d|another)"),
        ("beyond", FAILED, r"4 bytes at \w+ are not its memory"),
        ("beyond_shared", FAILED, r"4 bytes at \d+ of 32 shared"),
        ("askew", FAILED, r"is not a multiple of 16"),
        ("stale", FAILED, r"of another block through the nearest cache"),
        ("left", FAILED, r"7 threads wait for 1 that are done"),
        ("waiting", STUCK, r"waiting is stuck"),
    ],
)
def test_what_goes_wrong_is_noticed(
    name: str, answer: int, message: str, driver: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    found, _ = run(driver, name)
    assert found == answer
    assert re.search(message, capfd.readouterr().err)


def test_unknown_instructions_are_refused() -> None:
    text = ptx("beyond").replace("st.global.u32", "st.async.u32")
    with pytest.raises(UnknownPtxError, match=r"beyond, line \d+: "):
        translate("beyond", text)
