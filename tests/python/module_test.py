#!/usr/bin/env python3
"""The module bitstrata on the model of tests/embed/make_model.cpp."""

import ast
import importlib.metadata
import os
import pathlib
import threading
import time
import unittest

import numpy

import bitstrata

FOLDER = pathlib.Path(os.environ["BITSTRATA_EMBED_FOLDER"])
MODEL = FOLDER / "model.bst"
IMAGE = numpy.fromfile(FOLDER / "image.f32", dtype=numpy.float32).reshape(1, 1, 8, 8)
EXPECTED = numpy.array([line.split()[1] for line in (FOLDER / "expected.txt").read_text().splitlines()], dtype=numpy.float32)


class Failing(unittest.TestCase):
    def expect(self, code, part, call, *arguments, **keywords):
        with self.assertRaises(bitstrata.Error) as raised:
            call(*arguments, **keywords)
        self.assertEqual(raised.exception.code, code)
        self.assertIn(part, str(raised.exception))


class LoadTest(Failing):
    def test_tells_what_the_network_is(self):
        model = bitstrata.Model(MODEL, threads=2, max_batch=3)
        self.assertEqual(model.input.shape, (1, 8, 8))
        self.assertEqual([output.shape for output in model.outputs], [(10,)])
        self.assertEqual(model.class_names[7], "seven")
        self.assertEqual((model.mean, model.std), ([0.5], [0.5]))
        self.assertEqual((model.threads, model.max_batch), (2, 3))
        self.assertGreater(model.arena_bytes, 0)
        conv = model.layers[1]
        self.assertEqual((conv.op, conv.weight_bits, conv.activation_bits, conv.weight_count, conv.weight_bytes), ("conv", 2, 8, 54, 14))
        self.assertEqual(sum(layer.macs for layer in model.layers), model.macs)
        self.assertEqual(sum(layer.weight_bytes for layer in model.layers), model.weight_bytes)
        self.assertIn("w2 a8", repr(conv))

    def test_options_choose_isa_and_kernels(self):
        model = bitstrata.Model(str(MODEL), isa="scalar", kernels="reference")
        self.assertEqual(model.isa, "scalar")
        self.assertEqual({layer.kernel for layer in model.layers if layer.weight_bits}, {"conv_reference__scalar"})
        numpy.testing.assert_array_equal(bitstrata.Session(model).run(IMAGE)[0], EXPECTED)

    def test_failures_have_codes(self):
        self.expect("io", "none.bst", bitstrata.Model, FOLDER / "none.bst")
        self.expect("corrupt-file", "memory", bitstrata.Model, b"no model")
        self.expect("corrupt-file", "memory", bitstrata.Model, MODEL.read_bytes()[:-1])
        self.expect("invalid-argument", "magic", bitstrata.Model, MODEL, kernels="magic")
        self.expect("invalid-argument", "threads", bitstrata.Model, MODEL, threads=0)
        self.expect("bad-input", "zero byte", bitstrata.Model, "a\0b")
        self.assertTrue(issubclass(bitstrata.Error, RuntimeError))
        with self.assertRaises(TypeError):
            bitstrata.Model(3)

    def test_a_path_that_is_not_utf8_can_be_named_in_a_message(self):
        self.expect("io", "x", bitstrata.Model, os.fsdecode(b"/nowhere/x\xff.bst"))


class RunTest(Failing):
    def setUp(self):
        self.model = bitstrata.Model(MODEL.read_bytes(), max_batch=4)
        self.session = bitstrata.Session(self.model)

    def test_gives_the_scores_of_the_reference(self):
        scores = self.session.run(IMAGE)
        self.assertEqual((scores.dtype, scores.shape), (numpy.float32, (1, 10)))
        numpy.testing.assert_array_equal(scores[0], EXPECTED)

    def test_a_batch_equals_its_images(self):
        images = numpy.concatenate([IMAGE, -IMAGE, IMAGE * 0.5])
        scores = self.session.run(images)
        for image, row in zip(images, scores):
            numpy.testing.assert_array_equal(self.session.run(image[None])[0], row)

    def test_reads_any_layout(self):
        images = numpy.concatenate([IMAGE, -IMAGE])
        expected = self.session.run(images)
        misaligned = numpy.frombuffer(b"x" + images.tobytes(), dtype=numpy.uint8)[1:].view(numpy.float32).reshape(images.shape)
        for layout in (numpy.asfortranarray(images), numpy.repeat(images, 2, axis=0)[::2], images[::-1][::-1], misaligned):
            numpy.testing.assert_array_equal(self.session.run(layout), expected)

    def test_results_can_go_where_the_caller_wants(self):
        out = numpy.full((3, 10), 7, dtype=numpy.float32)
        found = self.session.run(IMAGE, out=out[1:2])
        numpy.testing.assert_array_equal(out[1], EXPECTED)
        self.assertTrue((out[[0, 2]] == 7).all())
        self.assertTrue(numpy.shares_memory(found, out))
        numpy.testing.assert_array_equal(self.session.run(IMAGE, out=[out[0:1]])[0], EXPECTED)

    def test_wrong_images_are_refused(self):
        for images, part in (
            (IMAGE.astype(numpy.float64), "float64"),
            (IMAGE.astype(">f4"), ">f4"),
            (IMAGE.astype(numpy.uint8), "uint8"),
            (IMAGE[0], "(1, 8, 8)"),
            (numpy.zeros((1, 1, 8, 9), numpy.float32), "(1, 1, 8, 9)"),
            (numpy.float32(3), "NumPy array"),
            (IMAGE.tolist(), "list"),
            (None, "None"),
        ):
            self.expect("bad-input", part, self.session.run, images)
        self.expect("bad-input", "5 images", self.session.run, numpy.zeros((5, 1, 8, 8), numpy.float32))
        self.expect("bad-input", "0 images", self.session.run, numpy.zeros((0, 1, 8, 8), numpy.float32))

    def test_wrong_room_is_refused(self):
        read_only = numpy.zeros((1, 10), numpy.float32)
        read_only.flags.writeable = False
        for out in (
            numpy.zeros((1, 10), numpy.float64),
            numpy.zeros((2, 10), numpy.float32),
            numpy.zeros((1, 20), numpy.float32)[:, ::2],
            read_only,
            [],
            [numpy.zeros((1, 10), numpy.float32)] * 2,
            [None],
            "x",
        ):
            self.expect("bad-input", "out", self.session.run, IMAGE, out=out)


class ThreadsTest(Failing):
    def in_threads(self, count, work):
        failures = []

        def guarded(index):
            try:
                work(index)
            except BaseException as error:  # a thread's own would be lost
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def test_sessions_of_one_model_run_side_by_side(self):
        model = bitstrata.Model(MODEL)

        def work(index):
            session = bitstrata.Session(model)
            image = IMAGE * numpy.float32(1 - 0.25 * index)
            expected = session.run(image)
            for _ in range(200):
                numpy.testing.assert_array_equal(session.run(image), expected)

        self.in_threads(2, work)

    def test_the_interpreter_runs_on_meanwhile_and_a_busy_session_says_so(self):
        # A batch that takes long enough to be seen from another thread, which the interpreter lock would hold up.
        count = 16384
        session = bitstrata.Session(bitstrata.Model(MODEL, max_batch=count, isa="scalar", kernels="reference"))
        images = numpy.repeat(IMAGE, count, axis=0)
        session.run(images)  # touches the memory once
        done = threading.Event()
        seen = []

        def work(index):
            if index == 0:
                session.run(images)
                done.set()
                return
            while not done.is_set():
                try:
                    session.run(IMAGE)
                except bitstrata.Error as error:
                    seen.append(error.code)
                time.sleep(0.001)

        self.in_threads(2, work)
        self.assertIn("invalid-argument", seen)
        numpy.testing.assert_array_equal(session.run(IMAGE)[0], EXPECTED)


class PackageTest(unittest.TestCase):
    def test_stubs_describe_what_there_is(self):
        package = pathlib.Path(bitstrata.__file__).parent
        self.assertTrue((package / "py.typed").is_file())
        described = {}
        for node in ast.parse((package / "__init__.pyi").read_text()).body:
            if isinstance(node, ast.ClassDef):
                described[node.name] = {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
        for name in ("Tensor", "Layer", "Model", "Session"):
            members = {member for member in vars(getattr(bitstrata, name)) if not member.startswith("_")}
            self.assertEqual(described[name] - {"__init__"}, members)
        self.assertIn("Error", described)

    def test_version_and_metadata_agree(self):
        self.assertEqual(importlib.metadata.version("bitstrata"), bitstrata.__version__)
        self.assertGreaterEqual(bitstrata.format_version, 1)


if __name__ == "__main__":
    unittest.main()
