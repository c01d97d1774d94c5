"""Spoils one line of the programs at a time and sees that a test notices.

  python tests/mutations.py                  all of them
  python tests/mutations.py lrn algebra.py   those that mention one of these

Works on copies of the tree, in a temporary folder. First the tests named below
must pass on the programs as they are. Then each mutation must make its test
fail, by an assertion or exception in the test itself: a mutant that does not
compile, or that breaks a fixture or the collection, is not caught. What was not
caught is listed at the end, and the exit code is 1.

All of them take about 20 minutes, two at a time on two cores.
"""
import collections
import concurrent.futures
import multiprocessing
import os
import queue
import re
import shutil
import sys
import tempfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JOBS = 2         # Mutations at a time, each in a copy of the tree of its own.
SECONDS = 600    # After which a test is ended; it has caught nothing.

# Each test run is forked from a process that has none of our modules but has
# imported TensorFlow, with cifar10_input's settings: that spares seconds.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload([
    'pytest', 'tensorflow.compat.v1', 'tensorboard.plugins.hparams.summary_v2',
    'tensorboard.backend.event_processing.event_accumulator', 'absl.testing',
    'matplotlib.pyplot', 'scipy.stats'])

Mutation = collections.namedtuple('Mutation', 'file original replacement test')

# By file: by test, of whose cases at least one must fail: pairs of the original
# text, which is in the file exactly once, and its replacement.
MUTATIONS = {
    'cifar10_input.py': {
        'test_cifar10_input.py::test_download_writes_only_the_data_files': [
            ('TRAIN_FILES + TEST_FILES + [NAMES_FILE]',
             'TRAIN_FILES + TEST_FILES'),
            ('if above == FOLDER and name in wanted:', 'if name in wanted:'),
        ],
        'test_cifar10_input.py::test_a_list_of_classes_that_does_not_do': [
            ('if len(names) != NUM_CLASSES:', 'if len(names) > NUM_CLASSES:'),
        ],
        'test_cifar10_input.py::test_verify_names_file_and_fault': [
            ("open(files.open_regular(path), 'rb')", "open(path, 'rb')"),
            ('records += labels.size', 'records += 1'),
            ('labels[bad], records + bad,', 'labels[bad], bad,'),
            ('if not size or size % RECORD_BYTES:', 'if size % RECORD_BYTES:'),
            ('labels.max() >= NUM_CLASSES', 'labels.max() > NUM_CLASSES'),
        ],
        'test_cifar10_input.py::test_download_expects_the_official_archive': [
            ('kriz/cifar-10-binary', 'kriz/cifar-100-binary'),
            ('ARCHIVE_BYTES = 170052171', 'ARCHIVE_BYTES = 170052170'),
            ("'c4a38c50a1bc5f3a", "'c4a38c50a1bc5f3b"),
        ],
        'test_cifar10_input.py::test_download_refuses_other_bytes': [
            ('if size != ARCHIVE_BYTES:', 'if size < ARCHIVE_BYTES:'),
            ('if digest != ARCHIVE_SHA256:', 'if False:'),
        ],
        'test_loop.py::test_all_of_the_loop_is_on_the_device': [
            ('tf.constant(seed, tf.int64)', 'tf.constant(seed, tf.int32)'),
        ],
        'test_loop.py::test_what_is_compiled_is_the_same_for_all_seeds': [
            ('  seed = seed_variable(seed)\n', ''),
        ],
        'test_cifar10_input.py::test_every_use_seed_and_number_has_bits_of_its_'
        'own': [
            # One stream for two uses.
            ('np.uint32(zlib.crc32(use.encode()))', 'np.uint32(0)'),
            ('key = [seed, np', 'key = [0, np'),
            ('tf.cast(number, tf.int32)', 'tf.zeros([], tf.int32)'),
            ('minval=None, maxval=None', 'minval=0, maxval=2**31 - 1'),
        ],
        'test_cifar10_input.py::test_orders_are_as_random_as_numpys_'
        'permutations[100-10-1000]': [
            ("random_bits([examples], seed, stream + '/order', epoch)",
             "random_bits([examples], 0, stream + '/order', epoch)"),
            ("stream + '/order', epoch", "stream + '/order', 0"),
            ("stream + '/order', epoch", "'/order', epoch"),
        ],
        'test_cifar10_input.py::test_sequence_is_the_orders_one_after_the_'
        'other': [
            # The order of the next epoch is not made.
            ('for number in (epoch, epoch + 1)',
             'for number in (epoch, epoch)'),
            ('epoch = positions[0] // examples',
             'epoch = positions[-1] // examples'),
            ('positions - epoch * examples', 'positions % examples'),
            ('tf.equal(kept, epoch)', 'tf.greater_equal(kept, epoch)'),
            ('kept.assign(epoch)', 'kept.assign(epoch + 1)'),
            ('random_order(examples, seed, stream, number)',
             'random_order(examples, 0, stream, number)'),
        ],
        'test_cifar10_input.py::test_draws_are_24_bits_of_their_own_for_every_'
        'seed_stream_and_step': [
            ('bits, 2**24 - 1), tf.float32) * 2.0**-24',
             'bits, 2**23 - 1), tf.float32) * 2.0**-23'),
            ('bits, 2**24 - 1)', 'bits, 2**23 - 1)'),
            ("random_bits([5, count], seed, stream + '/distortions', step)",
             "random_bits([5, count], 0, stream + '/distortions', step)"),
            ("stream + '/distortions', step", "stream + '/distortions', 0"),
            ("stream + '/distortions', step", "'/distortions', step"),
            ('random_bits([5, count], seed', 'random_bits([1, count], seed'),
        ],
        'test_cifar10_input.py::test_programs_draw_each_random_thing_under_a_'
        'name_of_its_own': [
            ("stream + '/distortions'", "stream + '/order'"),
        ],
        'test_cifar10_input.py::test_batch_is_cut_from_the_orders_and_distorted'
        '_by_its_draws': [
            ('step * batch_size + tf.range(batch_size',
             'step + tf.range(batch_size'),
            ('records.shape[0].value, seed, stream)',
             'records.shape[0].value, 0, stream)'),
            ('records.shape[0].value, seed, stream)',
             "records.shape[0].value, seed, 'training')"),
            ('distortion_draws(batch_size, seed, stream, step)',
             'distortion_draws(batch_size, 0, stream, step)'),
            ('distortion_draws(batch_size, seed, stream, step)',
             "distortion_draws(batch_size, seed, 'training', step)"),
            ('distortion_draws(batch_size, seed, stream, step)',
             'distortion_draws(batch_size, seed, stream, 0)'),
            ("data_files(data_dir, 'train_eval')",
             "data_files(data_dir, 'test')"),
        ],
        'test_cifar10_input.py::test_batch_is_a_function_of_seed_and_step': [
            ('draws[:, start:end]', 'draws[:, :end - start]'),
            ('indices[start:end]', 'indices[:end - start]'),
        ],
        'test_cifar10_input.py::test_distortions_of_given_draws_in_numpy': [
            ('MAX_BRIGHTNESS_DELTA = 63', 'MAX_BRIGHTNESS_DELTA = 64'),
            ('CONTRAST_RANGE = (0.2, 1.8)', 'CONTRAST_RANGE = (0.2, 1.2)'),
            ('(RECORD_SIDE - size + 1)', '(RECORD_SIDE - size)'),
            ('rows = offsets[0]', 'rows = offsets[1]'),
            ('flip = (draws[2] < 0.5)', 'flip = (draws[2] > 0.5)'),
            ('tf.reverse(columns, [1])', 'tf.reverse(columns, [0])'),
            ('((2 * draws[3] - 1) *', '(draws[3] *'),
            ('(high - low) * draws[4]', 'high * draws[4]'),
            ('(1 - contrast) + brightness,', '(1 - contrast) - brightness,'),
            # Contrast around 0 in place of the mean.
            ('tf.matmul(means * (1 - contrast) +', 'tf.matmul(means * 0 +'),
            # The contrast first.
            ('(1 - contrast) + brightness,',
             '(1 - contrast) + brightness * contrast,'),
            ('tf.image.per_image_standardization(\n      tf.reshape(crops',
             'tf.identity(\n      tf.reshape(crops'),
        ],
        'test_cifar10_input.py::test_inputs_are_the_central_crops_and_the_last'
        '_batch_is_filled': [
            ('IMAGE_SIZE = 24 ', 'IMAGE_SIZE = 28 '),
            ("if eval_data in ('test', True) else", 'if eval_data else'),
            # The pixels of a record channel by channel, not the other way.
            ('part[:, 1:], [size, 3, -1])', 'part[:, 1:], [size, -1, 3])'),
            ('tf.cast(batch[:, 0]', 'tf.cast(batch[:, 1]'),
            ('low = (RECORD_SIDE - IMAGE_SIZE) // 2', 'low = 0'),
            ('tf.image.per_image_standardization(tf.cast(crops, tf.float32))',
             'tf.cast(crops, tf.float32)'),
            ('tf.where(indices < examples', 'tf.where(indices <= examples'),
        ],
        'test_cifar10_input.py::test_inputs_take_the_tutorials_booleans': [
            ("if eval_data in ('test', True) else",
             "if eval_data == 'test' else"),
            ("if eval_data in ('test', True) else",
             "if eval_data in ('test', False) else"),
            ("in ('test', 'train_eval', True, False)",
             "in ('test', 'train_eval')"),
        ],
        'test_cifar10_input.py::test_inputs_without_a_number_go_round': [
            ('(runs.assign_add(1) - 1)', 'runs.assign_add(1)'),
            ('% -(-examples // batch_size)', '% (examples // batch_size)'),
        ],
        'test_cifar10_input.py::test_inputs_of_something_else_are_refused': [
            ("if eval_data not in ('test', 'train_eval', True, False):",
             'if False:'),
        ],
        'test_cifar10_input.py::test_inputs_are_never_more_than_the_images': [
            ('batch_size = min(batch_size, examples)', 'pass'),
        ],
        'test_cifar10_input.py::test_verify_counts_and_hashes': [
            ('digest.update(block)', 'digest.update(block[1:])'),
        ],
        'test_cifar10_input.py::test_verify_needs_the_memory_of_a_part_of_a_'
        'file': [
            ('source.read(BLOCK_BYTES)', 'source.read()'),
        ],
        'test_cifar10_input.py::test_the_data_folder_itself_can_be_named': [
            ('== FOLDER or any(\n', '== FOLDER or all(\n'),
        ],
        'test_cifar10_input.py::test_download_into_the_data_folder_itself': [
            ('os.path.basename(os.path.normpath(data_dir)) == FOLDER or any(',
             'any('),
            ('os.path.basename(os.path.normpath(data_dir)) == FOLDER',
             'os.path.basename(data_dir) == FOLDER'),
            ("os.path.dirname(os.path.normpath(folder)) or '.'",
             "os.path.dirname(folder) or '.'"),
        ],
        'test_cifar10_input.py::test_a_folder_of_the_data_in_the_one_named_'
        'is_preferred': [
            ('if itself and not os.path.lexists(inside):', 'if itself:'),
        ],
        'test_cifar10_input.py::test_download_leaves_nothing_where_the_disk_'
        'is_full': [
            ('    except OSError as error:\n      if not '
             'os.path.isdir(folder):',
             '    except ValueError as error:\n      if not '
             'os.path.isdir(folder):'),
        ],
        'test_cifar10_input.py::test_a_stopped_download_leaves_nothing': [
            ('    shutil.rmtree(scratch, ignore_errors=True)', '    pass'),
        ],
        'test_cifar10_input.py::test_names_are_never_patterns_or_addresses': [
            ('os.fsencode(os.path.abspath(name))', 'os.path.abspath(name)'),
            ('os.fsencode(os.path.abspath(name))', 'os.fsencode(name)'),
        ],
    },
    'cifar10.py': {
        'test_bad_input.py::test_flags[train---train_'
        'dir gs://a/b-is no local folder; name one]': [
            ("if name.endswith('_dir') and re",
             'if False and re'),
        ],
        'test_cifar10_train.py::test_a_device_without_memory_is_one_sentence': [
            ("type(error).__name__ != 'ResourceExhaustedError'", 'True'),
            ('if not isinstance(error, MemoryError) and (', 'if ('),
        ],
        'test_cifar10.py::test_of_equal_logits_the_first_labels_count': [
            ('tf.equal(first, labels[:, tf.newaxis])',
             'first + labels[:, tf.newaxis] >= 0'),
        ],
        'test_cifar10_eval.py::test_counts_equal_numpys[7-test-100-averaged]': [
            ('for k in (1, 5)]', 'for k in (1, 4)]'),
        ],
        'test_cifar10.py::test_a_batch_has_128_images': [
            ("'batch_size', 128", "'batch_size', 100"),
        ],
        'test_cifar10.py::test_parameters_and_multiply_adds': [
            ("'conv1': IMAGE_SIZE**2,", "'conv1': 32 * 32,"),
            ("'conv2': CONV2_POSITIONS}", "'conv2': 24 * 24}"),
            ('(IMAGE_SIZE // 4)**2 * conv2, local3]', '2304, local4]'),
        ],
        'test_cifar10.py::test_widths_in_words_settings_flags_and_arrays': [
            ('if widths[1:] == Widths()[1:]:', 'if True:'),
            ('Widths()._replace(conv1_channels=None)', 'Widths()'),
            ("'/biases', np.empty(default)", "'/biases', np.empty(0)"),
        ],
        'test_budget.py::test_the_whole_network_is_searched_at_once': [
            ('math.prod(shape)', 'int(np.prod(shape))'),
        ],
        'test_cifar10.py::test_other_constants_work_in_every_script': [
            ("'conv1': IMAGE_SIZE**2,", "'conv1': 24 * 24,"),
            ('(IMAGE_SIZE // 2)**2', '12 * 12'),
            ('(IMAGE_SIZE // 4)**2 * conv2, local3]', '2304, local3]'),
        ],
        'test_cifar10.py::test_constants_that_cannot_work_are_refused': [
            ('    cifar10_input.check_constants()\n', ''),
        ],
        'test_tensorflow.py::test_other_forms_of_help': [
            ('    sys.exit(0)\n', '    raise\n'),
        ],
        'test_tensorflow.py::test_help_without_a_reader': [
            ('  except BrokenPipeError:\n    files.close_output()\n'
             '    sys.exit(128 + signal.SIGPIPE)\n', ''),
        ],
        'test_cifar10.py::test_initial_weights_and_their_decay_are_the_'
        'tutorials': [
            ('[5, 5, 3, widths.conv1_channels], stddev=5e-2',
             '[5, 5, 3, widths.conv1_channels], stddev=0.1'),
            ('widths.conv2_channels],\n        stddev=5e-2',
             'widths.conv2_channels],\n        stddev=0.04'),
            ('value, widths.local3_units], stddev=0.04',
             'value, widths.local3_units], stddev=0.05'),
            ('stddev=1 / 192.0', 'stddev=1 / 384.0'),
            ('[widths.conv1_channels],\n' + 23 * ' ' +
             'tf.constant_initializer(0.0)', '[widths.conv1_channels],\n' +
             23 * ' ' + 'tf.constant_initializer(0.1)'),
            ('[widths.conv2_channels],\n' + 23 * ' ' +
             'tf.constant_initializer(0.1)', '[widths.conv2_channels],\n' +
             23 * ' ' + 'tf.constant_initializer(0.0)'),
            ('[widths.local3_units],\n' + 23 * ' ' +
             'tf.constant_initializer(0.1)', '[widths.local3_units],\n' +
             23 * ' ' + 'tf.constant_initializer(0.0)'),
            ('[widths.local4_units],\n' + 23 * ' ' +
             'tf.constant_initializer(0.1)', '[widths.local4_units],\n' +
             23 * ' ' + 'tf.constant_initializer(0.0)'),
            ('tf.truncated_normal_initializer', 'tf.random_normal_initializer'),
            # The same random numbers for every layer.
            ('seed=zlib.crc32(full_name.encode()) % 2**31', 'seed=1'),
            ('WEIGHT_DECAY = 0.004', 'WEIGHT_DECAY = 0.002'),
            ('widths.local4_units], stddev=0.04,\n        wd=WEIGHT_DECAY',
             'widths.local4_units], stddev=0.04,\n        wd=0.0'),
            ('stddev=1 / 192.0,\n        wd=0.0',
             'stddev=1 / 192.0,\n        wd=WEIGHT_DECAY'),
            ('tf.multiply(tf.nn.l2_loss(var), wd',
             'tf.multiply(tf.reduce_sum(var * var), wd'),
        ],
        'test_cifar10.py::test_cross_entropy_and_its_gradient_in_numpy': [
            ('tf.reduce_mean(tf.nn.softmax', 'tf.reduce_sum(tf.nn.softmax'),
            ('1 - label_smoothing + spread,', '1 - label_smoothing,'),
            ('label_smoothing / NUM_CLASSES',
             'label_smoothing / (NUM_CLASSES - 1)'),
        ],
        'test_cifar10.py::test_network_and_gradients_equal_the_tutorials_'
        'operations[16-None-0.0001]': [
            ("operations.max_pool(norm2, 'pool2')",
             "tf.nn.avg_pool2d(norm2, 3, 2, 'SAME')"),
            ('tf.identity(operations.local_response_normalization(pool1)',
             'tf.identity((pool1)'),
            # Pooling first, as behind conv1.
            ("operations.max_pool(norm2, 'pool2')",
             'operations.local_response_normalization(\n'
             "      operations.max_pool(conv2, 'pool2'))"),
            ('local4 = tf.nn.relu(', 'local4 = tf.identity('),
        ],
        'test_cifar10.py::test_bfloat16_is_float32_within_its_rounding': [
            ("dtype = tf.bfloat16 if precision == 'bfloat16' else tf.float32",
             'dtype = tf.float32'),
        ],
        'test_cifar10.py::test_towers_are_the_batch': [
            # The weight decay counted once a tower.
            ('if wd and not any(var is each for each in '
             "tf.get_collection('decayed')):", 'if wd:'),
            ('if tf.get_variable_scope().reuse is True:', 'if False:'),
            ('n * (i + 1) // number - n * i // number', 'n // number'),
            ('tf.concat(logits, 0)', 'tf.concat(logits[::-1], 0)'),
            ('inference(part, widths, precision)', 'inference(part, widths)'),
        ],
        'test_cifar10.py::test_towers_share_the_cores': [
            ('devices.cores() < 2', 'devices.cores() < 3'),
            ('operations.on_gpu() or', ''),
            ('or batch_size < 2', ''),
            ('devices.cores() // number', 'devices.cores()'),
        ],
        'test_cifar10.py::test_averages_follow_the_updated_weights': [
            ('LOSS_AVERAGE_DECAY = 0.9', 'LOSS_AVERAGE_DECAY = 0.99'),
            ('(before - each) *', 'each *'),
            # Showing them moves them.
            ("'losses/' + name, value)", "'losses/' + name, updates[-1])"),
            ('use_nesterov=True', 'use_nesterov=False'),
            ('steps = tf.cast(next_step, tf.float32)',
             'steps = tf.cast(global_step, tf.float32)'),
            ('tf.minimum(schedule.average_decay, (1 + steps) / (10 + steps))',
             'schedule.average_decay'),
            ('  (1 - decay)))', '  decay))'),
            # The averages before the weights.
            ('    with tf.control_dependencies([step]):\n      updates.append('
             'average.assign_sub((average - var.read_value()) *',
             '    updates.append(step)\n    if True:\n      updates.append('
             'average.assign_sub((average - var.initialized_value()) *'),
        ],
        'test_cifar10.py::test_learning_rates_by_hand': [
            ('DECAY_FACTOR = 0.1', 'DECAY_FACTOR = 0.5'),
            ('staircase=True', 'staircase=False'),
            ('WARMUP = 0.05', 'WARMUP = 0.1'),
            ('tf.minimum((step + 1) /', 'tf.minimum(step /'),
            ('(last_step - warmup))', 'last_step)'),
            ('max(warmup, schedule.warmup_steps)', 'warmup'),
        ],
        'test_cifar10.py::test_without_a_rate_it_is_the_tutorials': [
            ('EPOCH_FOR_TRAIN / _tutorial_flags().batch_size, None',
             'EPOCH_FOR_EVAL / FLAGS.batch_size, None'),
            ('global_step, PUBLISHED, INITIAL_LEARNING_RATE',
             'global_step, PUBLISHED, 0.01'),
        ],
        'test_cifar10_train.py::test_the_published_rate_falls_after_350_'
        'epochs': [
            ('NUM_EPOCHS_PER_DECAY = 350.0', 'NUM_EPOCHS_PER_DECAY = 300.0'),
        ],
        'test_cifar10_train.py::test_a_schedules_first_steps_by_hand'
        '[published]': [
            ('INITIAL_LEARNING_RATE = 0.1', 'INITIAL_LEARNING_RATE = 0.05'),
            ('momentum: float = 0.0', 'momentum: float = 0.9'),
        ],
        'test_cifar10_train.py::test_a_schedules_first_steps_by_hand[fast]': [
            ('learning_rate=0.02', 'learning_rate=0.03'),
            ('momentum=0.9,', 'momentum=0.0,'),
            ('label_smoothing=0.1', 'label_smoothing=0.0'),
            ('convolution_rate=4.0', 'convolution_rate=1.0'),
            ('gradient, schedule.convolution_rate,', 'gradient, 1,'),
        ],
        'test_cifar10_train.py::test_a_schedules_first_steps_by_hand'
        '[finetune]': [
            ('schedule.convolution_rate, preconditioners or {})',
             'schedule.convolution_rate, {})'),
        ],
        'test_cifar10_train.py::test_late_averages_keep_the_schedules_share'
        '[published]': [
            ('MOVING_AVERAGE_DECAY = 0.9999', 'MOVING_AVERAGE_DECAY = 0.999'),
        ],
        'test_cifar10_train.py::test_late_averages_keep_the_schedules_share'
        '[fast]': [
            ('average_decay=0.999', 'average_decay=0.9999'),
        ],
        'test_cifar10_input.py::test_the_data_folder_itself_can_be_named': [
            ('cifar10_input.data_folder(_tutorial_flags().data_dir)',
             'os.path.join(_tutorial_flags().data_dir, cifar10_input.FOLDER)'),
        ],
    },
    'cifar10_train.py': {
        'test_cifar10_train.py::test_a_network_that_does_not_fit_is_refused_'
        'before_the_first_step': [
            ('      if var.op.name in (initial or {}):', '      if False:'),
        ],
        'test_cifar10_train.py::test_a_new_run_says_what_it_goes_on_from': [
            ("if 'criterion' in made or parent.settings.get('fine_tuned'):",
             "if 'criterion' in made:"),
        ],
        'test_bad_input.py::test_images_to_rate_on_are_checked_first[train]': [
            ('  cifar10_eval.check_evaluate()   # Be', '  # Be'),
        ],
        'test_cifar10_train.py::test_the_seed_draws_the_initial_weights': [
            ('set_random_seed(FLAGS.seed)', 'set_random_seed(0)'),
        ],
        'test_cifar10_train.py::test_a_schedules_first_steps_by_hand[fast]': [
            ('distorted_inputs(FLAGS.seed, stream',
             'distorted_inputs(0, stream'),
            ('labels, plan.schedule.label_smoothing)', 'labels, 0.0)'),
            ('learning_rate, plan.schedule,',
             'learning_rate, cifar10.PUBLISHED,'),
            ('elif initial:', 'elif not initial:'),
        ],
        'test_cifar10_train.py::test_a_schedules_first_steps_by_hand'
        '[finetune]': [
            ('learning_rate, plan.schedule, preconditioners)',
             'learning_rate, plan.schedule, {})'),
        ],
        'test_cifar10_train.py::test_the_published_rate_falls_after_350_'
        'epochs': [
            ('steps_per_epoch = examples / FLAGS.batch_size',
             'steps_per_epoch = examples / 128'),
        ],
        'test_loop.py::test_what_is_compiled_is_the_same_for_all_seeds': [
            ('    preconditioners = precondition.in_variables(preconditioners)'
             '\n', ''),
        ],
        'test_loop.py::test_all_of_the_loop_is_on_the_device': [
            ('with tf.device(loop.DEVICE if on_gpu else None):',
             'with tf.device(None):'),
        ],
        'test_loop.py::test_tf32_is_for_the_steps_alone': [
            ("tensor_float_32(FLAGS.precision == 'tf32')",
             'tensor_float_32(False)'),
        ],
        'test_loop.py::test_tf32_without_a_gpu_is_refused': [
            ("FLAGS.precision == 'tf32' and not", "FLAGS.precision == 'x' and "
             'not'),
        ],
        'test_cifar10_train.py::test_damaged_checkpoints': [
            ('  return found, step\n', '  return found, 0\n'),
            ('  if made:   # Before', '  if False:   # Before'),
        ],
        'test_cifar10_train.py::test_other_settings_are_refused': [
            ('  require_same(folder, found.settings, plan)\n', ''),
            ('**cifar10.narrowed(widths),',
             'conv1_channels=widths.conv1_channels,'),
            ('any(found.get(name) != plan.training.settings.get(name)',
             'any(False'),
        ],
        'test_cifar10_train.py::test_more_steps_than_asked_for_are_not_called_'
        'finished': [
            ('if step > plan.training.last_step:', 'if False:'),
        ],
        'test_cifar10_train.py::test_signals_save_and_the_same_command_'
        'continues': [
            ('    cifar10.on_stop(saving.stop)\n', ''),
        ],
        'test_cifar10_train.py::test_log_line_run_json_and_events': [
            ('device=operations.device()', "device='processor'"),
        ],
        'test_cifar10_train.py::test_ratings_are_an_evaluations_and_change_no_'
        'bit': [
            ('averages = {var.op.name: var for var in tf.global_variables()\n'
             '              if var.op.name.endswith(checkpoint.AVERAGE)}',
             'averages = {var.op.name + checkpoint.AVERAGE: var for var in\n'
             '              tf.global_variables()}'),
        ],
        'test_cifar10_train.py::test_seconds_are_those_of_the_steps_that_are_'
        'kept': [
            ("round(run['seconds'] + seconds, 1)", "round(seconds, 1)"),
            ("  run.pop('end', None)\n", ''),
            ('    before, since = since, time.perf_counter()\n',
             '    before = since\n'),
            ('    record(step if found else 0)\n', '    record(0)\n'),
        ],
        'test_cifar10_train.py::test_what_killed_writers_left_is_removed': [
            ('  checkpoint.remove_parts(FLAGS.train_dir)\n', ''),
        ],
        'test_cifar10_train.py::test_few_or_no_test_images': [
            ('  except UserError:\n    return 0',
             '  except OSError:\n    return 0'),
        ],
        'test_thinet_finetune.py::test_training_is_given_the_averages': [
            ("parent_digest=parent.digest)", "parent_digest='')"),
        ],
        'test_cifar10_train.py::test_more_steps_in_a_new_folder_equal_'
        'one_run': [
            ('    step = first_step(plan, initial)\n', '    step = 0\n'),
            ("    raise UserError('The network of %s",
             "    str('The network of %s"),
        ],
        'test_cifar10_train.py::test_another_schedule_starts_without_'
        'momentum': [
            ('if FLAGS[name].value not in (None, width):', 'if False:'),
        ],
        'test_cifar10_train.py::test_a_refusal_names_the_command_that_'
        'goes_on': [
            ('checkpoint_dir=folder,\n', 'data_dir=folder,\n'),
        ],
        'test_cifar10_train.py::test_the_folder_is_tried_before_the_data': [
            ('  files.require_writable(FLAGS.train_dir)\n', ''),
        ],
    },
    'cifar10_eval.py': {
        'test_cifar10_eval.py::test_a_checkpoint_can_be_named[model.ckpt-10]': [
            ("if made.get('step', step_of(found)) == step_of(found):",
             'if True:'),
        ],
        'test_cifar10_eval.py::test_counts_equal_numpys[7-test-100-averaged]': [
            ("checkpoint.AVERAGE if weights == 'averaged'",
             "checkpoint.AVERAGE if weights == 'raw'"),
            ('count_nonzero(labels >= 0)', 'count_nonzero(labels > 0)'),
            ('range(-(-examples // FLAGS.batch_size))',
             'range(examples // FLAGS.batch_size)'),
        ],
        'test_cifar10_eval.py::test_report_by_hand': [
            ("'top5': 100.0 * top5 / examples", "'top5': 100.0 * top5 / 10000"),
            ('100.0 * top1 / examples, 100.0 * top5 / examples),',
             '100.0 * top1 / examples, top5 / examples),'),
            ("'_raw' if FLAGS.weights == 'raw' else ''", "''"),
            ('sum(seconds.values())', 'max(seconds.values())'),
            ("usual = kind == 'eval_test'", 'usual = True'),
            ("'split': FLAGS.eval_data", "'split': 'test'"),
            ('**widths._asdict(),', "'conv1_channels': widths[0],"),
        ],
        'test_cifar10_eval.py::test_plain_tensorflow_2_serves_the_export': [
            ('assign_network(session, arrays, suffix(weights))',
             "assign_network(session, arrays, suffix('averaged'))"),
            ('tf.ensure_shape(crops, [None, size, size, 3])', 'crops'),
            ("dict(\n      outputs, labels=tf.argmax(logits, axis=1))),\n"
             "          'standardized': signature({'images': crops}, outputs)}",
             "dict(\n      outputs, labels=tf.argmax(logits, axis=1))),\n"
             "          'standardized': signature({'images': crops}, dict(\n"
             "              outputs, labels=tf.argmax(logits, axis=1)))}"),
            ("''.join(name + '\\n' for name in names)",
             "''.join(name + ' ' for name in names)"),
            ('tf.ensure_shape(images, images.shape)', 'images'),
        ],
        'test_cifar10_eval.py::test_an_export_goes_where_tensorflow_can_load_'
        'it': [
            ("if set('*?[]\\\\') &", 'if set() &'),
        ],
        'test_cifar10_eval.py::test_the_checkpoint_is_looked_for_before_the_'
        'data': [
            ('  found = read(FLAGS.checkpoint_dir)\n  if FLAGS.image',
             '  found = None\n  if FLAGS.image'),
        ],
        'test_cifar10_eval.py::test_a_watch_ends_when_the_training_has_'
        'ended': [
            ('step >= made.get(', '0 * step >= made.get('),
            ("      if found.digest != seen:", '      if True:'),
        ],
        'test_cifar10_eval.py::test_a_checkpoint_can_be_named': [
            ("usual = kind == 'eval_test' and not named",
             "usual = kind == 'eval_test'"),
        ],
        'test_cifar10_eval.py::test_a_network_of_another_program': [
            ('    if average not in found.arrays:', '    if False:'),
        ],
        'test_image.py::test_pictures_are_read_as_by_pillow': [
            ('pixels[top:top + side, left:left + side]',
             'pixels[:side, :side]'),
            ('antialias=True', 'antialias=False'),
            ("channels=4 if alpha else 3)", 'channels=4)'),
            ("channels=4 if alpha else 3)", 'channels=3)'),
            (" or b'tRNS' in content", ''),
            ('square[..., :3] * alpha + 255 * (1 - alpha)',
             'square[..., :3] * alpha'),
        ],
        'test_image.py::test_pictures_that_do_not_do': [
            ('if width * height > MAX_PIXELS:', 'if False:'),
            (".ljust(8, b'\\0'))[::-1]", ".ljust(8, b'\\0'))"),
        ],
        'test_image.py::test_an_image_of_the_data_set_is_rated_as_in_it': [
            ("np.argsort(-rated, kind='stable')",
             "np.argsort(rated, kind='stable')"),
            ('cifar10_input.central(image[np.newaxis])',
             'cifar10_input.central(image[np.newaxis, ::-1])'),
        ],
        'test_cifar10_eval.py::test_eval_json_line_and_scalars': [
            ("'checkpoint_digest': found.digest", "'checkpoint_digest': ''"),
        ],
    },
    'thinet/__init__.py': {
        'test_tensorflow.py::test_other_versions_of_python_are_refused': [
            ('(3, 11) <=', '(3, 10) <='),
            ('<= (3, 13)', '<= (3, 14)'),
            ('<= (3, 13)', '<= (3, 12)'),
        ],
    },
    'thinet/tensorflow.py': {
        'test_tensorflow.py::test_start_up_messages_are_shown_if_asked_for': [
            ("in ('0', '1')", "in ('0',)"),
            ("in ('0', '1')", "in ('0', '1', '2')"),
            ('    os.dup2(kept, 2)\n', ''),
        ],
        'test_tensorflow.py::test_they_are_shown_if_the_import_fails': [
            ('    os.write(kept, heard.read())\n', ''),
        ],
        'test_tensorflow.py::test_a_crash_in_the_import_says_where': [
            ('    faulthandler.enable(kept)\n', '    pass\n'),
        ],
        'test_tensorflow.py::test_whoever_imports_tensorflow_gets_it_in_one_'
        'state': [
            ('  sys.meta_path.insert(0, _Finder)\n', '  pass\n'),
            ('if _NAME in sys.modules:', 'if False:'),
        ],
        'test_tensorflow.py::test_keras_waits_and_settings_come_before_the_'
        'import': [
            ("  os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')\n",
             ''),
            ("    sys.modules['keras'] = None\n", '    pass\n'),
            ("setdefault('TF_ENABLE_ONEDNN_OPTS', '1')",
             "update(TF_ENABLE_ONEDNN_OPTS='1')"),
        ],
        'test_tensorflow.py::test_without_a_temporary_file_the_messages_are_'
        'shown': [
            ('except OSError:', 'except ValueError:'),
        ],
        'test_tensorflow.py::test_help_and_wrong_flags_need_no_tensorflow': [
            ('from absl import app   # With tf.app.flags.\n', ''),
        ],
    },
    'thinet/algebra.py': {
        'test_algebra.py::test_least_squares_order_of_few_samples_costs_'
        'nothing_at_first': [
            ('    np.linalg.cholesky(second', '    abs(second'),
            ('(np.maximum(values, 0) + ridge)', '(values + ridge)'),
        ],
        'test_thinet_compress.py::test_losses_from_few_images_are_no_less_than_'
        'none': [
            ('    np.linalg.cholesky(second', '    abs(second'),
        ],
        'test_algebra.py::test_gram_equals_stored_contributions': [
            ('np.asarray(kernel, np.float64),',
             'np.asarray(kernel, np.float64).swapaxes(0, -3),'),
        ],
        'test_algebra.py::test_order_and_objective_equal_the_textbook': [
            ('score += 2 * gram[best]', 'score += gram[best]'),
            ('np.argmin(score)', 'np.argmax(-score[::-1])'),
            ('ordered.cumsum(0).cumsum(1)', 'ordered.cumsum(0)'),
        ],
        'test_algebra.py::test_scales_equal_lstsq_on_stored_contributions': [
            ('right = gram[kept].sum(1)', 'right = inner.sum(1)'),
        ],
        'test_algebra.py::test_dead_and_duplicated_channels_are_named_and_do_no'
        '_harm': [
            ('gram[kept].sum(1) + ridge', 'gram[kept].sum(1)'),
            ('left -= across @', 'left += across @'),
        ],
        'test_algebra.py::test_kept_order_is_orthogonal_matching_pursuit': [
            ('left ** 2 / np.where', 'np.abs(left) / np.where'),
            ('np.array(kept[::-1], np.int64)', 'np.array(kept, np.int64)'),
        ],
        'test_algebra.py::test_least_squares_order_equals_elimination_by_'
        'lstsq[0]': [
            ('moments.second - np.outer', 'moments.second + np.outer'),
            ('flat[keep] - across @', 'flat[keep] + across @'),
            ('costs[-1] + cost[best]', 'cost[best]'),
        ],
        'test_algebra.py::test_full_reconstruction_equals_lstsq': [
            ('.swapaxes(0, 1).reshape(\n', '.reshape(\n'),
            ('(flat.T @ fit.first - ', '(flat.T @ fit.first + '),
            ('- 2 * shift @', '+ 2 * shift @'),
        ],
        'test_thinet_compress.py::test_full_is_ridge_regression_by_the_ridge_'
        'that_does_best': [
            ('error = relative_error(check,', 'error = relative_error(fit,'),
            ('missing = second[rows] @ flat - inner @ flat[rows]',
             'missing = second[rows] @ flat'),
        ],
        'test_algebra.py::test_each_solve_through_a_relu_has_new_targets_where'
        '_it_cuts_off': [
            ('np.where(targets > 0, targets', 'np.where(outputs > 0, targets'),
            ('ridge * mean * (present - flat)',
             'ridge * mean * (flat - present)'),
        ],
        'test_algebra.py::test_refit_without_a_relu_is_ridge_regression': [
            ('np.trace(second[:size, :size])', 'np.trace(second)'),
            ('rest.sum(0)[np.newaxis]', '0 * rest.sum(0)[np.newaxis]'),
        ],
        'test_algebra.py::test_refit_keeps_weights_that_do_better_on_what_was_'
        'held_back': [
            ('np.square(left(flat, check))', 'np.square(left(flat, fit))'),
        ],
        'test_algebra.py::test_left_over_by_hand': [
            ('-np.maximum(outputs, 0)', '-outputs'),
        ],
    },
    'thinet/hooks.py': {
        'test_cifar10_train.py::test_more_steps_in_a_new_folder_'
        'equal_one_run': [
            ('if checkpoint.paths(self._training.folder):',
             'if step:'),
        ],
        'test_cifar10_train.py::test_divergence_is_one_sentence_with_'
        'histograms_too': [
            ('    except tf.errors.InvalidArgumentError as error:',
             '    except KeyError as error:'),
        ],
        'test_cifar10_train.py::test_a_clock_that_stands_still': [
            ('max(time.perf_counter() - start, 1e-9)',
             '(time.perf_counter() - start)'),
        ],
        'test_cifar10_train.py::test_a_training_whose_reader_has_gone_saves': [
            ('      self._stop(signal.SIGPIPE)\n', '      raise\n'),
            ('      files.close_output()\n', ''),
        ],
        'test_cifar10_train.py::test_as_many_checkpoints_as_asked': [
            ('self._training.keep_checkpoints)', '3)'),
        ],
        'test_cifar10_train.py::test_damaged_checkpoints': [
            ('if stop or step % self._training.checkpoint_frequency',
             'if stop or (step + 1) % self._training.checkpoint_frequency'),
        ],
        'test_cifar10_train.py::test_log_line_run_json_and_events': [
            ('                                step == self.last_step - 1)\n',
             '                                False)\n'),
        ],
        'test_cifar10_train.py::test_nothing_that_is_not_finite_is_saved': [
            ('if checkpoint.not_finite(arrays):', 'if False:'),
            ('    require_finite(results[\'loss\'], step)\n', ''),
        ],
        'test_cifar10_train.py::test_ratings_are_an_evaluations_and_change_no_'
        'bit': [
            ('/ found.examples', '/ 10000'),
            ('    last = self._counter.step == self._training.last_step\n',
             '    last = False\n'),
            ('    if self._counter.step % self._training.eval_frequency == 0:'
             '\n', '    if False:\n'),
        ],
        'test_cifar10_train.py::test_seconds_are_those_of_the_steps_that_are_'
        'kept': [
            ('    self._saved(self._counter.step)\n', ''),
        ],
        'test_cifar10_train.py::test_signals_save_and_the_same_command_'
        'continues': [
            ('self.signal = self.signal or number', 'self.signal = 15'),
        ],
        'test_loop.py::test_a_loss_that_is_not_finite_ends_the_loop': [
            ("step + results['made'] - 1", 'step'),
            ('      self._show(step, run_context.session.run(fetches))\n',
             '      run_context.session.run(fetches)\n'),
        ],
        'test_loop.py::test_a_training_with_the_loop': [
            ('      session.run(self.loop.made, '
             '{self.loop.count: self.count})\n',
             '      session.run(train_op)\n'),
            ('    if len(fetches) > 1:', '    if False:'),
        ],
        'test_loop.py::test_runs_end_where_something_is_due': [
            ('[LONGEST_LOOP, max(self.last_step - 1 - step, 1)]',
             '[LONGEST_LOOP, self.last_step - step]'),
            ('(self.log_frequency, self.histogram_frequency,',
             '(self.histogram_frequency,'),
            ('self.checkpoint_frequency, self.eval_frequency)',
             'self.eval_frequency)'),
            ('self.checkpoint_frequency, self.eval_frequency)',
             'self.checkpoint_frequency)'),
            ('[each - step % each for each in ends if each]',
             '[each - step % each - 1 for each in ends if each]'),
        ],
        'test_loop.py::test_steps_that_xla_cannot_compile_run_one_by_one': [
            ('      self.loop = None\n', '      pass\n'),
        ],
    },
    'thinet/loop.py': {
        'test_loop.py::test_the_loop_gives_the_plain_steps_weights': [
            ("'losses', 'decayed', 'histograms'", "'decayed', 'histograms'"),
            ('with tf.control_dependencies([operation]):',
             'with tf.control_dependencies([]):'),
            ('return made + 1, ', 'return made + 2, '),
        ],
        'test_loop.py::test_a_training_with_the_loop': [
            ("'losses', 'decayed', 'histograms', 'summaries'",
             "'losses', 'decayed', 'histograms'"),
            ('        graph.add_to_collection(name, value)', '        pass'),
        ],
        'test_loop.py::test_all_of_the_loop_is_on_the_device': [
            ('tf.xla.experimental.compile(loop, [count])', 'loop(count)'),
        ],
        'test_loop.py::test_steps_that_xla_cannot_compile_run_one_by_one': [
            ('except (tf.errors.InvalidArgumentError, ', 'except ('),
            ('Detected at node|', ''),
        ],
        'test_loop.py::test_a_loss_that_is_not_finite_ends_the_loop': [
            (' & tf.math.is_finite(loss)', ''),
        ],
    },
    'thinet/moments.py': {
        'test_moments.py::test_moments_are_those_of_patches_cut_by_hand': [
            # The taps column by column.
            ('np.add.outer(np.arange(KERNEL) * width, np.arange(KERNEL))',
             'np.add.outer(np.arange(KERNEL), np.arange(KERNEL) * width)'),
            ('edge = [KERNEL // 2] * 2', 'edge = [0, KERNEL - 1]'),
            ('edge = [KERNEL // 2] * 2', 'edge = [KERNEL - 1, 0]'),
            ('positions // side * width', 'positions // side * side'),
            ('* width ** 2', '* side ** 2'),
            ('grid[::stride, ::stride]', 'grid[1::stride, ::stride]'),
            ('grid[::stride, ::stride]', 'grid[::stride]'),
            ('self._count += len(rows)', 'self._count += 1'),
        ],
        'test_moments.py::test_sums_of_blocks_are_those_of_all_rows': [
            ('self._second + np.float64(rows.T @ rows)',
             'np.float64(rows.T @ rows)'),
            ('self._first += rows.sum(0,', 'self._first = rows.sum(0,'),
        ],
        'test_moments.py::test_rows_that_are_summed_up_are_let_go': [
            ('if self._number >= BLOCK:', 'if False:'),
        ],
        'test_moments.py::test_sampled_patches_are_patches_at_distinct'
        '_positions': [
            ('tf.nn.top_k(bits, locations).indices',
             'bits[:, :locations] % bits.shape[1]'),
        ],
        'test_thinet_compress.py::test_moments_are_those_of_the_averaged_'
        'networks_patches': [
            ('reshape(-1, channels[layer]).T.ravel()',
             'reshape(-1, channels[layer]).ravel()'),
            ('self._second[order][:, order]', 'self._second[order]'),
            ('fit.add(rows[held_back:])', 'fit.add(rows[:held_back])'),
            ('check.add(rows[:held_back].copy())',
             'check.add(rows[held_back:].copy())'),
            ('CHECK_SHARE = 10', 'CHECK_SHARE = 5'),
        ],
        'test_moments.py::test_a_file_of_moments_is_used_where_key_and_'
        'shapes_are_right': [
            ('wanted[layer][0]).hexdigest()',
             'wanted[layer][0][:64]).hexdigest()'),
            ('hashlib.sha256(hashlib.sha256(key).digest() + numbers)',
             'hashlib.sha256(numbers)'),
            ('if content[:32] != _digest(key, numbers):', 'if False:'),
            ('(fields[:3], fields[3:])', '(fields[3:], fields[:3])'),
            ('make(missing)', 'make(list(wanted))'),
            ('return {layer: found[layer] for layer in wanted}',
             'return found'),
        ],
        'test_moments.py::test_one_program_makes_the_moments_and_the_other_'
        'waits': [
            ("with files.alone(os.path.join(folder, 'moments.lock')):",
             'if True:'),
            ('missing = look()   # Another', 'missing = list(wanted)   #'),
        ],
    },
    'thinet/refit.py': {
        'test_refit.py::test_fit_and_check_are_different_images': [
            ('range(batches - max(1, batches // 10))', 'range(batches - 2)'),
            ('range(len(self.fit), batches)', 'range(batches)'),
            ('steps[:max(1, images // self.batch_size)]', 'steps'),
        ],
        'test_refit.py::test_conv2_is_refitted_from_the_slim_patches': [
            ("moments.patches(pair.original['norm1'], positions)",
             "moments.patches(pair.original['norm1'], positions[:, ::-1])"),
            ("moments.patches(pair.slim['norm1'], positions)",
             "moments.patches(pair.slim['pool1'], positions)"),
            ('pair.first(pair.check, CONV2_IMAGES // 10)',
             'pair.first(pair.fit, CONV2_IMAGES // 10)'),
            ('kernel.shape[-1].value])), biases)',
             'kernel.shape[-1].value])), 0 * biases)'),
            ('steps, True,\n', 'steps, False,\n'),
            ('fit, check = (pair', 'check, fit = (pair'),
            ('in np.array_split(fit[0],', 'in np.array_split(check[0],'),
            ('np.ones_like(rows[:, :1])', 'np.zeros_like(rows[:, :1])'),
        ],
        'test_refit.py::test_a_dense_layer_is_refitted_from_the_slim_inputs': [
            ('fetches, (pair.fit, pair.check),',
             'fetches, (pair.fit, pair.fit),'),
            ('fetches, (pair.fit, pair.check),',
             'fetches, (pair.check, pair.fit),'),
            ('pair.target(layer)]', 'pair.slim[layer]]'),
            ('tf.gather(outputs, self.kept[layer], axis=-1)',
             'outputs[..., :len(self.kept[layer])]'),
        ],
        'test_refit.py::test_layers_behind_the_first_pruned_one_are_refitted_'
        'front_to_back': [
            ("layer != 'softmax_linear')", 'False)'),
            ('len(kept) < pair.original[layer].shape[-1].value)', 'True)'),
        ],
        'test_refit.py::test_one_step_is_the_preconditioned_gradients': [
            ('2 * pair.batch_size *', 'pair.batch_size *'),
            ("pair.batch_size * slim['softmax_linear'].shape[1].value)",
             'pair.batch_size)'),
            ('CONVOLUTION_RATE = 1.5', 'CONVOLUTION_RATE = 1.0'),
            ('for step in pair.check)', 'for step in pair.fit)'),
        ],
        'test_refit.py::test_the_next_rate_starts_again_where_one_fails': [
            ('    session.run(self._at_first)\n',
             '    session.run(self._at_first) if rate > 1 else None\n'),
            ('    pair.change(start)\n    descent', '    descent'),
        ],
        'test_refit.py::test_a_descent_that_ends_higher_is_not_kept': [
            ('if after < before:', 'if True:'),
            ('  pair.change(start)\n  return', '  return'),
        ],
        'test_refit.py::test_each_pass_has_the_images_to_fit_otherwise_'
        'distorted': [
            (' // len(self.fit) * len(self.check)', ' * 0'),
            ('pair.build(pair.step_to_fit(number))', 'pair.build(number)'),
            ('_last = PASSES * len(pair.fit)', '_last = len(pair.fit)'),
            ('self._number.assign_add(1).op', 'updates'),
        ],
        'test_refit.py::test_what_is_compiled_is_the_same_for_all_seeds': [
            ('precondition.in_variables(precondition', '(precondition'),
        ],
        'test_refit.py::test_the_gpus_loop_goes_the_plain_steps': [
            ('{many.count: count}', '{many.count: 1}'),
            ('if self._loop and not self._loop.compile(pair.session):',
             'if True:'),
        ],
    },
    'thinet/precondition.py': {
        'test_precondition.py::test_inverse_solves_the_damped_system': [
            ('LARGEST_FACTOR = 64.0', 'LARGEST_FACTOR = 32.0'),
            ('(values[-1] or 1.0)', '(values.mean() or 1.0)'),
            ('(vectors * factors) @ vectors.T',
             '(vectors * factors) @ vectors'),
        ],
        'test_precondition.py::test_fine_tuning_preconditions_by_its_networks_'
        'inputs': [
            ('STRIDE = 2', 'STRIDE = 3'),
            ('(run(rows, number)', '(run(rows, 0)'),
            ('found.second / found.count', 'found.second'),
        ],
        'test_cifar10_train.py::test_a_schedules_first_steps_by_hand'
        '[finetune]': [
            ('matrices[name] @ rows', 'rows'),
            ('gradient *= convolution_rate', 'gradient *= 1'),
        ],
        'test_cifar10.py::test_averages_follow_the_updated_weights': [
            ("name.startswith('conv')", "name.startswith('conv1')"),
        ],
    },
    'thinet/prune.py': {
        'test_thinet_compress.py::test_choices_are_made_from_the_averages': [
            ('np.abs(filters).sum(', 'filters.sum('),
        ],
        'test_thinet_compress.py::test_scales_are_fitted_to_the_average_and_'
        'checked_on_the_rest': [
            ('algebra.contribution_gram(fit, kernel), kept)',
             'algebra.contribution_gram(check, kernel), kept)'),
            ('before = algebra.relative_error(check,',
             'before = algebra.relative_error(fit,'),
            ('relative_error_after=algebra.relative_error(check,',
             'relative_error_after=algebra.relative_error(fit,'),
        ],
        'test_prune.py::test_choice_and_rebuilding_are_those_of_stored_'
        'samples': [
            ('rebuilt * factors[:, np.newaxis]',
             'rebuilt / factors[:, np.newaxis]'),
        ],
        'test_thinet_compress.py::test_full_is_ridge_regression_by_the_ridge_'
        'that_does_best': [
            ('np.float32(start[biases] + shift)',
             'np.float32(start[biases] - shift)'),
            ('full_reconstruction(fit, check,',
             'full_reconstruction(check, fit,'),
            ('kept, rebuilt,\n' + 50 * ' ' + 'shift))', 'kept, rebuilt))'),
        ],
        'test_prune.py::test_what_has_no_such_name_is_refused': [
            ("  elif criterion == 'random':\n", '  elif True:\n'),
            ("  elif mode != 'none':\n", '  elif False:\n'),
        ],
        'test_prune.py::test_slim_arrays_are_raw_and_averaged': [
            ('np.float32(factors)[:,', 'np.float32(factors[::-1])[:,'),
            ('changed.get(name, value)', 'changed.get(name + suffix, value)'),
            ('in scales.items():', 'in (scales if suffix else {}).items():'),
        ],
        'test_prune.py::test_slices_are_of_any_channels': [
            ('biases[kept[layer]]', 'biases[:len(kept[layer])]'),
            ('{})[:, kept[before]]', '{})[:, :len(kept[before])]'),
        ],
        'test_thinet_compress.py::test_slim_network_is_a_slice_of_its_parent'
        '[none]': [
            ('np.sort(order[len(order) - widths[layer]:])',
             'np.sort(order[:widths[layer]])'),
            ("{'global_step': np.int64(0)}",
             "{'global_step': arrays['global_step']}"),
        ],
        'test_prune.py::test_contributions_add_up_to_the_readers_output': [
            # The taps within the channels.
            ("kernel.reshape(-1, weights[layer + '/biases'].size, "
             'kernel.shape[-1])',
             "kernel.reshape(weights[layer + '/biases'].size, -1, "
             'kernel.shape[-1]).swapaxes(0, 1)'),
        ],
        'test_thinet_compress.py::test_what_a_reader_loses_itself_does_not_'
        'count': [
            ('kernel[..., kept[reader]]', 'kernel[..., :len(kept[reader])]'),
            ('reversed(CHAIN)', 'CHAIN'),
            ('reader_kernel(weights, layer, kept),\n        weights',
             'reader_kernel(weights, layer, {}),\n        weights'),
        ],
    },
    'thinet/budget.py': {
        'test_budget.py::test_widths_are_the_best_of_all': [
            ('np.where(spare < 0, 0, fitting)', 'fitting'),
            ('np.minimum(fitting, fits)', 'fits'),
            ('np.where(fitting > 0, total, np.inf)', 'total'),
        ],
        'test_budget.py::test_the_whole_network_is_searched_at_once': [
            ('axes[:first] + [[width]] + axes[first + 1:])', 'axes)'),
        ],
        'test_budget.py::test_of_equally_good_widths_the_costliest_are_taken': [
            ('found[:2] < best[:2])', 'found[0] < best[0])'),
        ],
        'test_budget.py::test_a_layer_that_loses_by_more_units_is_not_widened_'
        'for_it': [
            ('np.minimum.accumulate(each)', 'each'),
        ],
    },
    'thinet_compress.py': {
        'test_thinet_compress.py::test_a_report_without_the_settings_'
        'is_made_again': [
            ("said.get('settings'), said", "found.settings, said"),
        ],
        'test_thinet_compress.py::test_a_stop_closes_what_makes_the_moments': [
            ('contextlib.closing(sampled_batches(weights, sample, layers)) as',
             'contextlib.nullcontext(sampled_batches(weights, sample, layers)) '
             'as'),
        ],
        'test_thinet_compress.py::test_weights_that_are_too_large_are_one_'
        'sentence': [
            ('    except np.linalg.LinAlgError:', '    except KeyError:'),
        ],
        'test_thinet_compress.py::test_the_same_command_again_is_finished_'
        'another_is_refused': [
            ('  if made:   # Before', '  if False:   # Before'),
        ],
        'test_thinet_compress.py::test_what_killed_writers_left_is_removed': [
            ('  checkpoint.remove_parts(FLAGS.output_dir)\n', ''),
        ],
        'test_bad_input.py::test_images_to_rate_on_are_checked_first'
        '[compress]': [
            ('  cifar10_eval.check_evaluate()\n', ''),
        ],
        'test_thinet_compress.py::test_moments_are_those_of_the_averaged_'
        'networks_patches': [
            ("network['norm1'], moments.random", "network['pool1'], "
             'moments.random'),
            ('endpoints(cifar10_input.central(images),',
             'endpoints(cifar10_input.distort(images, tf.fill([5, tf.shape('
             'indices)[0]], 0.4)),'),
            ('range(-(-sample.num_images // sample.batch_size))',
             'range(sample.num_images // sample.batch_size)'),
            ('yield session.run(fetches, {batch: number})',
             'yield session.run(fetches, {batch: 0})'),
        ],
        'test_thinet_compress.py::test_the_key_holds_all_that_the_moments_'
        'depend_on': [
            ('repr((MOMENTS, layer, sample,\n',
             'repr((MOMENTS, layer, sample[:3], sample.digest,\n'),
            ('                cifar10_input.RANDOM_STREAMS)).encode() +\n',
             '                0)).encode() +\n'),
            ("for kind in ('/weights', '/biases')),",
             "for kind in ('/weights',)),"),
            ('cifar10.LAYERS[:number]', 'cifar10.LAYERS[number - 1:number]'),
        ],
        'test_thinet_compress.py::test_cached_moments_are_the_same_or_made_'
        'again[none]': [
            ('kernel.shape[0] * kernel.shape[1])', 'kernel.shape[1])'),
        ],
        'test_thinet_compress.py::test_a_budget_gives_all_modes_of_a_parent_'
        'the_same_widths': [
            ('cifar10.given(COSTS).items()', '()'),
            ('if cifar10.given(COSTS):   # The', 'if False:   # The'),
        ],
        'test_thinet_compress.py::test_a_loss_is_what_a_layer_alone_does_to_'
        'the_logits': [
            ('SENSITIVITY_ERRORS = 0.03, 0.1, 0.3',
             'SENSITIVITY_ERRORS = 0.03, 0.2, 0.3'),
            ('(errors * np.interp(', '(np.interp('),
            ('error / (errors[removed] or 1.0)', 'error'),
            ('{str(len(order) - removed): value', '{str(removed): value'),
        ],
        'test_thinet_compress.py::test_losses_are_made_once_for_all_budgets': [
            ('      files.write_json(path, {\n          \'key\'',
             '      dict({\n          \'key\''),
            ('parent.digest, sample,', 'parent.digest,'),
            ("if there['key'] == key:", 'if there:'),
            ('      files.remove_parts(path)\n', ''),
        ],
        'test_thinet_compress.py::test_sensitivities_are_not_taken_where_the_'
        'error_is_rounding': [
            ('LEAST_ERROR = 0.003 ', 'LEAST_ERROR = 0.0 '),
        ],
        'test_thinet_compress.py::test_losses_from_few_images_are_no_less_than_'
        'none': [
            ('fit.count < len(fit.second)', 'fit.count > len(fit.second)'),
        ],
        'test_thinet_compress.py::test_a_layer_of_one_unit_stays_as_it_is': [
            ('    if len(order) == 1:', '    if False:'),
        ],
        'test_thinet_compress.py::test_network_starts_from_the_averages_and_'
        'what_full_gives': [
            ('{**prune.sliced(weights, kept), **changed}, kept,',
             'prune.sliced(weights, kept), kept,'),
            ('      sample.seed) as pair:', '      1) as pair:'),
            ('min(sample.batch_size, sample.num_images // 10)',
             'sample.batch_size'),
        ],
        'test_thinet_compress.py::test_slim_network_is_a_slice_of_its_parent'
        '[none]': [
            ('str(len(choice.order) - m): float', 'str(m): float'),
            ("'end': checkpoint.now()}", "'end': None}"),
        ],
        'test_refit.py::test_each_pass_has_the_images_to_fit_otherwise_'
        'distorted': [
            ("batch_size, key, 'refits', step))",
             "batch_size, key, 'refits', step % batches))"),
            ('step % batches * batch_size', 'step * batch_size'),
        ],
        'test_refit.py::test_what_is_compiled_is_the_same_for_all_seeds': [
            ('key = cifar10_input.seed_variable(seed)', 'key = seed'),
        ],
        'test_refit.py::test_one_step_is_the_preconditioned_gradients': [
            ('gradient, rate, cifar10.FAST.momentum)', 'gradient, rate, 0)'),
        ],
    },
    'thinet_finetune.py': {
        'test_cifar10_train.py::test_a_schedules_first_steps_by_hand'
        '[finetune]': [
            ('learning_rate=0.01', 'learning_rate=0.02'),
            ('momentum=0.9', 'momentum=0.0'),
            ('convolution_rate=1.5', 'convolution_rate=1.0'),
            ('warmup_steps=350', 'warmup_steps=0'),
        ],
        'test_cifar10_train.py::test_late_averages_keep_the_schedules_share'
        '[finetune]': [
            ('average_decay=0.999', 'average_decay=0.99'),
        ],
        'test_thinet_finetune.py::test_training_is_given_the_averages': [
            ('averages = parent.averages',
             'averages = {name: parent.arrays[name] for name in '
             'cifar10.weight_shapes()}'),
            ('initial = dict(averages,', 'initial = dict(parent.arrays,'),
            ('lambda: preconditioners(averages)',
             'lambda: preconditioners(arrays)'),
            ('fine_tuned=True', 'fine_tuned=False'),
            ("'finetuning', initial", "'training', initial"),
        ],
        'test_precondition.py::test_fine_tuning_preconditions_by_its_networks_'
        'inputs': [
            ('{step: number}', '{step: 0}'),
            ("distorted_inputs(FLAGS.seed, step, 'preconditioner')",
             "distorted_inputs(FLAGS.seed, step, 'finetuning')"),
            ("['norm1']\n", "['pool1']\n"),
        ],
    },
    'thinet/checkpoint.py': {
        'test_cifar10_eval.py::test_a_network_of_another_program': [
            ('return read(path, shapes_like, averaged=False)',
             'return read(path, shapes_like)'),
        ],
        'test_cifar10_train.py::test_what_killed_writers_left_is_removed': [
            (r'\.(checkpoint|run\.json|compress', r'\.(checkpoint|\w+\.json'
             '|compress'),
            (r"r'model\.ckpt-\d+\..*\.tempstate\d+|'", "r'x|'"),
            ('getmtime(path) > 3600', 'getmtime(path) > 3800'),
            ('getmtime(path) > 3600', 'getmtime(path) >= 0'),
        ],
        'test_checkpoint.py::test_the_newest_checkpoint_is_that_of_the_highest_'
        'step': [
            ('key=lambda match: int(match[2])', 'key=lambda match: match[2]'),
            ('int(match[2]), reverse=True', 'int(match[2])'),
            ('\\d{1,18}', '\\d+'),
        ],
        'test_checkpoint.py::test_folders_are_names_and_no_patterns': [
            ("    with contextlib.chdir(folder or '.'):\n"
             '      reader = tf.train.NewCheckpointReader(name)',
             '    if True:\n      reader = tf.train.NewCheckpointReader(path)'),
            ('for old in older[keep - 1:]', 'for old in older[keep:]'),
        ],
        'test_checkpoint.py::test_a_checkpoint_of_a_later_step_is_not_'
        'removed': [
            ('older = found[found.index(path) + 1:]',
             'older = [each for each in found if each != path]'),
        ],
        'test_checkpoint.py::test_a_checkpoint_is_on_the_disk_before_the_'
        'state_file_names_it': [
            ('      files.sync(path + part)\n    files.sync(folder)',
             '      pass\n    files.sync(folder)'),
            ('      files.sync(path + part)\n    files.sync(folder)',
             '      files.sync(path + part)'),
        ],
        'test_checkpoint.py::test_a_good_checkpoint_beside_a_bad_one_is_'
        'found': [
            ('      damages.append(damage)\n      continue', '      raise'),
            ('    for damage in damages:\n',
             '    for damage in damages[:1]:\n'),
            ("making(folder).get('command', 'the command that made it.')",
             "'the command that made it.'"),
        ],
        'test_checkpoint.py::test_damaged_checkpoints_are_moved_aside': [
            (
             'with contextlib.suppress(FileExistsError):\n        '
             'os.mkdir(aside)',
             'if True:\n        os.makedirs(aside, exist_ok=True)'),
        ],
        'test_checkpoint.py::test_what_cannot_be_opened_is_not_called_'
        'damaged': [
            ('raise _unreadable(path, error.strerror)',
             "raise DamagedError('Checkpoint %s is damaged' % path)"),
        ],
        'test_checkpoint.py::test_what_is_not_finite_is_neither_saved_nor_'
        'read': [
            ("  if name:\n    raise CheckpointError('The network for",
             "  if False:\n    raise CheckpointError('The network for"),
            ("  if name:\n    raise DamagedError('Checkpoint %s holds",
             "  if False:\n    raise DamagedError('Checkpoint %s holds"),
        ],
        'test_checkpoint.py::test_settings_that_no_program_writes_are_'
        'refused': [
            ('isinstance(value, (int, float)) and abs(value) < 2**53',
             'isinstance(value, (int, float))'),
            ('if not isinstance(each, dict):', 'if False:'),
            ('      elif not (isinstance(value, (int, float))',
             '      elif value is not None and not (isinstance(value, '
             '(int, float))'),
        ],
        'test_checkpoint.py::test_averages_are_asked_for_or_checked_where_they_'
        'are': [
            ('(averaged or average in arrays)', 'True'),
            ('(averaged or average in arrays)', 'averaged'),
        ],
        'test_checkpoint.py::test_a_path_names_a_checkpoint_or_a_folder': [
            ('there and not os.path.isdir(name)', 'there'),
            ("  if set('*?[]\\\\') & set(os.path.basename(path)):",
             '  if False:'),
            ('path = path.removesuffix(part)', 'path = path'),
        ],
        'test_checkpoint.py::test_averages_go_by_the_names_of_their_weights': [
            ('if name.endswith(AVERAGE)}', 'if not name.endswith(AVERAGE)}'),
        ],
        'test_checkpoint.py::test_another_network_is_refused': [
            ('[average] * (averaged or average in arrays)', '[]'),
            ('if (list(found.shape), found.dtype) != (shape, np.float32) or (',
             'if list(found.shape) != shape or ('),
            ('if (list(found.shape), found.dtype) != (shape, np.float32) or (',
             'if found.dtype != np.float32 or ('),
            ('not 0 <= step < 10**18', 'False'),
            ('if step.shape or', 'if'),
            ("step.dtype.kind not in 'iu'", 'False'),
        ],
        'test_checkpoint.py::test_a_repository_above_the_sources_is_not_'
        'theirs': [
            ("if not os.path.lexists(os.path.join(root, '.git')):",
             'if False:'),
        ],
        'test_checkpoint.py::test_other_settings_are_refused_with_both_'
        'values': [
            ('  if not found:\n    raise CheckpointError',
             '  if False:\n    raise CheckpointError'),
            ('wanted.keys() | found.keys()', 'wanted.keys()'),
            ("if wanted.get('random_streams') != found.get('random_streams'):",
             'if False:'),
            ("sources = {'data_digest': 'other images than --data_dir has "
             "now'}", 'sources = {}'),
            ("['parent', 'parent_step', 'parent_digest']", "['parent']"),
            ('key=lambda name: (name in sources, name)',
             'key=lambda name: name'),
        ],
    },
    'thinet/files.py': {
        'test_files.py::test_a_lock_file_on_a_full_disk_is_no_fault': [
            ('os.pwrite(lock.fileno(), text.encode(), 0)',
             'lock.write(text)'),
        ],
        'test_files.py::test_json_is_written_whole_or_not_at_all': [
            ('      os.unlink(part)', '      pass'),
            ("    raise not_written(os.path.dirname(path) or '.', error)",
             '    raise'),
        ],
        'test_files.py::test_every_change_to_a_json_file_is_noticed': [
            ('  if text != body + _closing(body):', '  if False:'),
        ],
        'test_files.py::test_a_file_is_on_the_disk_before_it_has_its_name': [
            ('    sync(part)\n', ''),
            ("    sync(folder or '.')\n", ''),
            ('    sync(above)\n', ''),
        ],
        'test_files.py::test_a_file_has_the_rights_that_the_umask_leaves': [
            ("open(part, 'xb') as target:\n",
             "open(part, 'xb') as target:\n    os.chmod(part, 0o644)\n"),
            ('O_CLOEXEC, 0o666)', 'O_CLOEXEC, 0o644)'),
        ],
        'test_files.py::test_what_is_no_regular_file_is_not_waited_for': [
            ('if not stat.S_ISREG(os.fstat(descriptor).st_mode):', 'if False:'),
        ],
        'test_files.py::test_what_killed_writers_left_is_removed': [
            ("each.startswith('.%s.' % name) and ", ''),
            (" and each.endswith('.part')", ''),
        ],
        'test_files.py::test_who_only_looks_stops_no_holder': [
            ('      if last:\n', '      if True:\n'),
            ('    return True\n  except OSError:   # There', '    return '
             'False\n  except OSError:   # There'),
        ],
        'test_files.py::test_one_holder_at_a_time_and_the_dead_do_not_hold': [
            ('return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)',
             'return'),
            ("'process %d on %s\\n' % (os.getpid(), socket.gethostname())",
             "'process %d\\n' % os.getpid()"),
        ],
        'test_files.py::test_a_file_system_without_locks_can_be_used': [
            ("  except OSError as error:\n    print('Folder",
             "  except ValueError as error:\n    print('Folder"),
        ],
        'test_files.py::test_a_lock_that_is_no_file_is_refused': [
            (' | os.O_NOFOLLOW', ''),
        ],
        'test_files.py::test_a_folder_is_tried_before_the_work': [
            ('if not os.access(there, os.W_OK | os.X_OK):', 'if False:'),
            ('  if not os.path.isdir(there):', '  if False:'),
        ],
    },
    'thinet/devices.py': {
        'test_operations.py::test_the_device_has_its_name': [
            ("line.partition(':')[2].strip()", 'line'),
            ("in ('', '-1'):", "in ('0', '-1'):"),
        ],
    },
    'thinet/operations.py': {
        'test_cifar10.py::test_network_and_gradients_equal_the_tutorials_'
        'operations[16-None-0.0001]': [
            ("max_pool2d(x, 3, 2, 'SAME', name=name)",
             "max_pool2d(x, 2, 2, 'SAME', name=name)"),
        ],
        'test_operations.py::test_a_gpus_pooling_equals_tf_nn_max_pool2d': [
            ('tf.equal(pixel, y) & ~taken', 'tf.equal(pixel, y)'),
            ('constant_values=x.dtype.min)', 'constant_values=0)'),
            ('(slice(None),) * axis + (slice(-1),)]',
             '(slice(None),) * axis + (slice(1, None),)]'),
        ],
        'test_loop.py::test_tf32_is_for_the_steps_alone': [
            ('  finally:\n    tf.config.experimental.enable_tensor_float_32_'
             'execution(False)\n', '  finally:\n    pass\n'),
        ],
        'test_operations.py::test_the_device_has_its_name': [
            ("details.get('device_name', 'GPU')", "'GPU'"),
        ],
        'test_operations.py::test_lrn_of_an_exported_network': [
            ('root * tf.rsqrt(root))', 'tf.sqrt(root))'),
            ('root * tf.rsqrt(root))', 'tf.rsqrt(root))'),
        ],
        'test_operations.py::test_lrn_equals_tf_nn_lrn_in_value_and_gradient': [
            ('= 4, 1.0, 0.001 / 9.0', '= 5, 1.0, 0.001 / 9.0'),
            ('= 4, 1.0, 0.001 / 9.0', '= 4, 2.0, 0.001 / 9.0'),
            ('= 4, 1.0, 0.001 / 9.0', '= 4, 1.0, 0.001'),
            ('0.001 / 9.0, 0.75', '0.001 / 9.0, 0.5'),
            ('scale = root * (tf.sqrt(root) if', 'scale = root * (root if'),
            ('<= LRN_RADIUS', '< LRN_RADIUS'),
            ('direct - flat * across', 'direct + flat * across'),
        ],
        'test_operations.py::test_convolution_at_other_sizes': [
            ('inputs[:, :, KERNEL // 2:KERNEL // 2 + size]',
             'inputs[:, :, KERNEL // 2 - 1:KERNEL // 2 - 1 + size]'),
            ('inv(powers(points)).T', 'inv(powers(points))'),
            ('[size, size, n, filters]), [2, 0, 1, 3])',
             '[size, size, n, filters]), [2, 1, 0, 3])'),
        ],
        'test_operations.py::test_where_the_convolution_is_tensorflows_own': [
            ('.value >= FEWEST_CHANNELS', '.value > FEWEST_CHANNELS'),
            ('x.dtype != tf.bfloat16 and', ''),
            ('and not on_gpu()', ''),
        ],
    },
    'thinet/progress.py': {
        'test_progress.py::test_a_file_gets_nothing': [
            ('if not sys.stderr.isatty():', 'if False:'),
        ],
        'test_progress.py::test_a_terminal_shows_label_and_share': [
            ('items, label, transient', "items, '', transient"),
        ],
    },
    'thinet/summaries.py': {
        'test_summaries.py::test_curves_of_a_batch_in_numpy': [
            ('tf.argmax(logits, 1)', 'tf.argmin(logits, 1)'),
        ],
        'test_summaries.py::test_hparams_have_a_row_for_each_network': [
            ('if isinstance(value, int) and', 'if False and'),
            ("('seconds', 1 / 60)", "('seconds', 1 / 3600)"),
        ],
        'test_summaries.py::test_a_compression_shows_filters_and_channels': [
            ('channel, objective[number]', 'channel, objective[number - 1]'),
            ("'yes, times %.3f'", "'yes, times %.1f'"),
        ],
        'test_summaries.py::test_a_shell_reads_a_shown_command_as_it_was_'
        'typed': [
            ("'    ' + shlex.quote(flag)", "'    ' + flag"),
        ],
        'test_summaries.py::test_a_new_row_takes_the_place_of_the_old_one': [
            ('os.path.join(folder, ROW)', "os.path.join(folder, 'row')"),
        ],
        'test_summaries.py::test_removed_filters_are_dimmed_toward_white': [
            ('strength[kept] = 1.0', 'strength[:len(kept)] = 1.0'),
            ('ZOOM, DIMMED = 6, 0.2', 'ZOOM, DIMMED = 6, 0.8'),
            ('np.transpose(tiles, [3, 0, 1, 2])',
             'np.transpose(tiles, [3, 1, 0, 2])'),
        ],
    },
    'results/pace.py': {
        'test_pace.py::test_nothing_is_said_before_anything_is_known': [
            ('if seconds and progress:', 'if progress is not None:'),
        ],
        'test_pace.py::test_time_is_scaled_by_width_and_epochs': [
            ('BESIDE = 3.14e6', 'BESIDE = 0.0'),
            ('self.settings.finetune_epochs if network.fine_tuned',
             'self.settings.epochs if network.fine_tuned'),
            ('if abs(cost - mine) == nearest]', ']'),
            ('sum(seconds.values())', 'max(seconds.values())'),
        ],
        'test_pace.py::test_a_budget_takes_the_time_of_its_widths': [
            ('    return network.share * cifar10.cost()[0]',
             '    return cifar10.cost()[0]'),
            ('    if None not in widths.values():', '    if False:'),
            ("(network.mode.rpartition('_')[2], network.share is None))",
             "network.mode.rpartition('_')[2])"),
        ],
        'test_pace.py::test_a_stage_waits_for_the_one_before_and_cells_share_'
        'what_is_free': [
            ('      free = [max(free)] * places\n', ''),
            ('free[0] + seconds)', 'seconds)'),
            ('max(len(self.settings.gpus) or ', 'max('),
            ('max(len(self.settings.gpus) or',
             'max(len(self.settings.gpus),'),
        ],
        'test_pace.py::test_what_a_program_needs_beside_its_work_is_measured': [
            ('before = max(before, rated)', 'pass'),
            ('if beside > 0 and', 'if'),
            ('seconds += self._starting', 'pass'),
            ('statistics.median(known)', 'statistics.mean(known)'),
        ],
        'test_pace.py::test_a_running_training_is_known_by_its_newest_'
        'checkpoint': [
            ('seconds -= max(0, time.time() - self._idle_since(cell))', 'pass'),
            ('max(0, time.time()', 'max(-1e9, time.time()'),
        ],
    },
    'results/status.py': {
        'test_run_experiments.py::test_an_output_that_is_closed_from_'
        'the_start_is_one_sentence': [
            ('  if sys.stdout is None:',
             '  if False:'),
        ],
        'test_run_experiments.py::test_any_folder_can_be_named': [
            ("if sys.stdout.errors == 'strict':", 'if False:'),
        ],
        'test_cells.py::test_without_a_question_status_says_which_there_are': [
            ('what not in ANSWERS or ', ''),
            (' or about_a_cell and len(words) < 3:', ':'),
        ],
        'test_run_experiments.py::test_a_python_without_the_packages_is_one_'
        'sentence': [
            ('  if not importlib.util.find_spec(_name):', '  if False:'),
        ],
        'test_run_experiments.py::test_the_cell_of_a_budget_goes_on_with_its_'
        'widths': [
            ('if None not in widths.values())]', ')]'),
        ],
        'test_run_experiments.py::test_it_says_what_it_will_do_does_and_has_'
        'made': [
            (" + ['budgets.csv'] * bool(sweep.settings.budgets)", ''),
        ],
        'test_pace.py::test_a_cell_is_done_running_failed_or_waiting': [
            ("if note.startswith('failed'):", 'if False:'),
            ('  if cell in sweep.running:', '  if False:'),
            ("if begun else 'waiting'", "if percent else 'waiting'"),
            ('  if None in times:', '  if True:'),
            ("(sweep.folder(each), 'eval.json')", "(sweep.folder(each), 'x')"),
        ],
        'test_run_experiments.py::test_on_replaced_test_images_all_is_rated_'
        'again': [
            ('(cells.read_data(settings.data_dir) if known',
             '(cells.read_data(settings.data_dir) if False'),
        ],
    },
    'results/widths.py': {
        'test_widths.py::test_ways_to_choose_widths_are_compared_parent_by_'
        'parent': [
            ("('half', 'conv1')", "('conv1', 'half')"),
            ("for top1 in ('top1', 'top1_finetuned')])",
             "for top1 in ('top1', 'top1')])"),
            ('each[budget][other][top1] for each in parents',
             'parents[0][budget][other][top1] for each in parents'),
            ('any(each != names[0] for each in names)', 'False'),
            ('len(set(seeds)) < len(seeds)', 'False'),
        ],
    },
    'results/tables.py': {
        'test_cells.py::test_constants_are_those_of_the_programs': [
            ("{'published': 128, 'fast': 50}", "{'published': 128, 'fast': 5}"),
            ('FINETUNE_EPOCHS = 20\n', 'FINETUNE_EPOCHS = 2\n'),
        ],
        'test_differences.py::test_trainings_of_other_epochs_have_tables_of_'
        'their_own': [
            ('FINETUNE_EPOCHS = 20', 'FINETUNE_EPOCHS = 1'),
            ("EPOCHS = {'published': 128,", "EPOCHS = {'published': 480,"),
            ('number = max(counts,', 'number = min(counts,'),
        ],
        'test_report.py::test_table_of_budgets_by_hand': [
            ('statistics.mean(map(decimal.Decimal, values))',
             'decimal.Decimal(values[0])'),
            ("'parameters_mean', 1000,", "'parameters_mean', 1024,"),
            ("by_cell(table, 'budget')", 'by_cell(table)'),
        ],
        'test_tables.py::test_a_mean_is_rounded_once': [
            ('decimal.ROUND_HALF_UP', 'decimal.ROUND_HALF_EVEN'),
            ('decimal.ROUND_HALF_UP', 'decimal.ROUND_DOWN'),
            ('value.quantize(step,',
             'decimal.Decimal(float(value)).quantize(step,'),
        ],
        'test_tables.py::test_a_standard_deviation_is_rounded_once': [
            ('decimal.ROUND_HALF_UP) + 0)', 'decimal.ROUND_HALF_UP))'),
            ('statistics.stdev(values)', 'statistics.pstdev(values)'),
        ],
        'test_figures.py::test_what_is_drawn_of_the_committed_networks': [
            ('statistics.mean(values)\n      if',
             'statistics.median(values)\n      if'),
        ],
        'test_tables.py::test_narrow_table_by_hand': [
            ("if row['n'] > 2:", "if row['n'] > 1:"),
        ],
        'test_report.py::test_table_by_hand': [
            ('return (-key[0],', 'return (key[0],'),
        ],
    },
    'results/differences.py': {
        'test_differences.py::test_quantiles_are_student_s': [
            ("'12.706 4.303", "'12.706 4.302"),
            ('min(degrees, len(T)) - 1', 'degrees - 1'),
        ],
        'test_report.py::test_table_of_budgets_by_hand': [
            ("'budget': 1}", "'budget': 0.25}"),
            ('between(networks, columns, size)', 'between(networks, columns)'),
        ],
        'test_differences.py::test_losses_to_fine_tuned_parents_by_hand': [
            ("' and parent,')] = SCRATCH_TUNED", "' and parent,')] = SCRATCH"),
            ('      if mode in FOUR:', '      if True:'),
            ("in ('full', 'network', 'network, fine-tuned')}",
             "in ('full', 'network')}"),
        ],
        'test_differences.py::test_losses_within_parents_against_scipy': [
            ('T[min(degrees, len(T)) - 1]', 'T[min(degrees, len(T))]'),
            ('squares / degrees * inverse',
             'squares / (degrees + 1) * inverse'),
            ('len(differences) - 1, squares', 'len(differences), squares'),
            ('one / len(differences)', 'one'),
            ('if degrees < 2:', 'if degrees < 1:'),
            ('whole = found[(PARENT[size],) + parent]',
             'whole = found[(max(key[0] for key in found),) + parent]'),
            ('[whole[seed] - slim[seed] for seed in both]',
             '[slim[seed] - whole[seed] for seed in both]'),
            # Not within parents.
            ('[whole[seed] - slim[seed] for seed in both]',
             '[one - other for one, other in zip(whole.values(), '
             'slim.values())]'),
        ],
        'test_differences.py::test_differences_from_scratch_against_scipy': [
            ('if both and len(both) == min(len(ours), len(theirs)):',
             'if False:'),
            ('if both and len(both) == min(len(ours), len(theirs)):',
             'if both:'),
            ('len(values) + len(others) - 2', 'len(values) + len(others) - 1'),
            ('squares(values) + squares(others)', 'squares(values)'),
            ('one / len(values) + one / len(others)', 'one / len(values)'),
            ('ours[seed] - theirs[seed]', 'theirs[seed] - ours[seed]'),
        ],
        'test_differences.py::test_questions_after_fine_tuning_by_hand': [
            ('statistics.mean(top1[seed] for top1 in groups)',
             'max(top1[seed] for top1 in groups)'),
            ("COMPRESSED[name][0], 'none', 'yes'))",
             "'thinet', 'none', 'yes'))"),
            ("(FOUR, SCRATCH_TUNED)", '(FOUR, SCRATCH)'),
            ('([SCRATCH_TUNED], SCRATCH)', '([SCRATCH_TUNED], SCRATCH_TUNED)'),
            ("FINE_TUNED['none, fine-tuned'])}", 'SCRATCH_TUNED)}'),
            ('if len(sizes) > 1:', 'if False:'),
            ('zip(*column.values())', 'list(zip(*column.values()))[::-1]'),
        ],
        'test_differences.py::test_choices_of_channels_by_hand': [
            ("[('least_squares', how, 'no')]",
             "[('least_squares', 'full', 'no')]"),
            ('{heading: column for heading, column in columns.items() if '
             'column}', 'dict(columns)'),
        ],
        'test_differences.py::test_trainings_of_other_epochs_have_tables_of_'
        'their_own': [
            ('ours = by_seed(tables.usual(networks),',
             'ours = by_seed(networks[::-1],'),
        ],
    },
    'results/reading.py': {
        'test_reading.py::test_what_cannot_be_read_is_named_and_left_out': [
            ('except (FileNotFoundError, NotADirectoryError):',
             'except OSError:'),
        ],
        'test_reading.py::test_few_epochs_are_a_number': [
            ("(format(value, 'f') if", '(str(value) if'),
        ],
        'test_reading.py::test_a_fine_tuned_training_has_its_budget': [
            ('(?:_finetuned)?', ''),
        ],
        'test_reading.py::test_a_network_that_was_made_again_counts_once': [
            ('    if same(each) and first != folder:', '    if False:'),
        ],
        'test_reading.py::test_a_file_of_other_weights_or_images_is_no_'
        'network': [
            ("(result['split'], result['weights']) != ('test', 'averaged')",
             "result['split'] != 'test'"),
            ("(result['split'], result['weights']) != ('test', 'averaged')",
             "result['weights'] != 'averaged'"),
        ],
        'test_reading.py::test_figures_that_cannot_be_are_refused': [
            ("if not result['top1'] <= result['top5'] <= 100:",
             "if not result['top1'] <= 100:"),
        ],
        'test_reading.py::test_networks_csv_by_hand': [
            ("seed=line[-1].get('seed'", "seed=line[0].get('seed'"),
            ("sum(seconds.values())", 'max(seconds.values())'),
            ("schedule=line[-1].get('schedule', '')",
             "schedule=line[0].get('schedule', '')"),
            ("made.get('end', '')", "made.get('start', '')"),
            ("epochs.get(each['root'], each['epochs'])", "each['epochs']"),
            ("finetune_epochs=epochs if tuned else '')",
             'finetune_epochs=epochs)'),
            ('usual = cells.OTHERS.get(name)', 'usual = None'),
        ],
        'test_reading.py::test_a_broken_networks_csv_is_one_sentence': [
            ('if same(networks[-1]) and first != lines.line_num:', 'if False:'),
            ("epochs = tables.EPOCHS.get(network_['schedule'])", 'pass'),
            ("not text.endswith('\\n') and", 'False and'),
        ],
        'test_report.py::test_table_of_budgets_by_hand': [
            (' and shares[0] == shares[1] else', ' else'),
            ("each.get('fine_tuned') is False", "each.get('fine_tuned')"),
            ("        each['budget'] = budget\n", '        pass\n'),
            ("(_budget0\\.\\d+(_finetuned)?)?'", "(_budget0\\.\\d+)?'"),
        ],
        'test_reading.py::test_a_training_without_a_compression_of_its_budget_'
        'is_left_out': [
            ('widths_of(slim) == widths_of(each)', 'True'),
            ("slim['budget'] == budget and", ''),
            ('if any(os.path.dirname(other) == above and', 'if any('),
            ('        del networks[folder]\n', ''),
        ],
        'test_reading.py::test_a_network_is_rated_at_its_widths': [
            ("'fine_tuned', *tables.WIDTHS]", "'fine_tuned']"),
        ],
        'test_reading.py::test_edited_files_are_named_and_left_out': [
            ('files.read_json(path, parse_float=decimal.Decimal)',
             "__import__('json').load(open(path), parse_"
             'float=decimal.Decimal)'),
        ],
        'test_reading.py::test_what_is_no_file_is_named_at_once': [
            ('except (OSError, ValueError, ArithmeticError, RecursionError)',
             'except (ValueError, ArithmeticError, RecursionError)'),
        ],
        'test_reading.py::test_files_that_do_not_belong_together_are_left_'
        'out': [
            ('if result.get(name, usual) != settings.get(name, usual):',
             'if False:'),
            ("if result['global_step'] != made.get('last_step', 0):",
             'if False:'),
            ("if each['data_digest'] != line[-1]['data_digest']:", 'if False:'),
        ],
        'test_reading.py::test_a_copy_counts_once': [
            ('  leave_out_second(networks, faults)\n', ''),
        ],
        'test_reading.py::test_networks_without_an_evaluation_are_named': [
            ("elif {'run.json', 'compress.json'} & set(names):", 'elif False:'),
        ],
        'test_reading.py::test_networks_of_other_images_are_refused': [
            ('if len(seen) > 1:', 'if False:'),
            ('training = data[0] == other_data[0]',
             'training = data[0] != other_data[0]'),
            ("data=(str(result['data_digest']),", "data=('',"),
            ("str(line[-1]['data_digest'])),\n", "''),\n"),
        ],
        'test_reading.py::test_values_of_other_types_are_left_out_or_shown': [
            ("data=(str(result['data_digest']),",
             "data=(result['data_digest'],"),
            ('TypeError, AttributeError,\n', 'TypeError,\n'),
            ("'%s is %.60a, not a %s'", "'%s is %a, not a %s'"),
            ('is about %s = %.60a, not %.60a', 'is about %s = %s, not %.60a'),
        ],
    },
    'results/report.py': {
        'test_reading.py::test_few_epochs_are_a_number': [
            ('reading.plain(value)',
             'value'),
        ],
        'test_report.py::test_budgets_have_their_table_without_parents': [
            ('if not table and not budgets:', 'if not table:'),
        ],
        'test_report.py::test_sections_of_a_readme_are_replaced_in_place': [
            ("'budgets': tables.narrow_budgets(budgets), **found}", '**found}'),
            ('write(os.path.realpath(path), text', 'write(path, text'),
        ],
        'test_report.py::test_several_precisions_are_said': [
            ('if len(precisions) > 1:', 'if len(precisions) > 2:'),
        ],
        'test_differences.py::test_trainings_of_other_epochs_have_tables_of_'
        'their_own': [
            ('ours, with_budget = tables.usual(conv1),',
             'ours, with_budget = conv1,'),
            ("if text.count('\\n') > 1]", "if text.count('\\n') > 9]"),
        ],
        'test_figures.py::test_the_figure_of_costs_shows_both_tables': [
            ("counted('parameters', 4e-6)", "counted('parameters', 1e-6)"),
            ("if name + '_mean' in row else None", "if True else None"),
        ],
        'test_figures.py::test_the_figure_of_measured_costs': [
            ("measured('file_bytes', 1e-6)", "measured('file_bytes', 1)"),
            ('if key in latencies else None', 'if True else None'),
            ("row.get('conv1_channels') or", "row.get('parent') or"),
        ],
        'test_report.py::test_latencies_that_cannot_be_read': [
            (' TypeError, AttributeError,\n          RecursionError)',
             ' TypeError,\n          RecursionError)'),
            (' AttributeError,\n          RecursionError)', ' AttributeError)'),
            ('if not 0 < each[name] < math.inf', 'if not 0 <= each[name]'),
        ],
        'test_tables.py::test_a_mean_is_rounded_once': [
            ('tables.shown(value, 3)', 'tables.shown(value)'),
        ],
        'test_report.py::test_a_table_is_of_one_schedule_and_of_conv1_alone': [
            ("schedule = 'published'", "schedule = 'fast'"),
            (" if each['budget'] == '' and", ' if'),
            ('widths_of(each)[1:] == list(cells.OTHERS.values())', 'True'),
            ('          [each for each in found if', '          [each for each '
             'in networks if'),
            ('len(ours) - len(with_budget)', 'len(ours)'),
        ],
        'test_report.py::test_table_of_budgets_by_hand': [
            ("dict(each, budget=differences.PARENT['budget'])", 'dict(each)'),
            ("(cells.CONV1_CHANNELS, 'scratch')", "(1, 'scratch')"),
            ('TABLE[1:9]', 'TABLE[1:8]'),
        ],
        'test_figures.py::test_what_is_drawn_of_the_committed_networks': [
            ("each['multiply_adds'] / 1e6", "each['multiply_adds'] / 1e3"),
        ],
        'test_reading.py::test_broken_files_are_named_and_left_out': [
            ('return 1 if faults else 0', 'return 0'),
        ],
        'test_report.py::test_published_figures_that_cannot_be_are_refused': [
            ('KeyError, TypeError, csv.Error)', 'KeyError, TypeError)'),
            ('tuple(reading.number(name, row[name])\n',
             'tuple(float(row[name])\n'),
        ],
        'test_report.py::test_terminals_without_the_sign_and_names_that_are_'
        'not_utf8': [
            ("text = text.replace('± ', '+-')", 'pass'),
            ("text.replace('± ', '+-')", "text.replace('±', '+-')"),
        ],
        'test_report.py::test_an_output_that_nobody_reads_or_that_is_full': [
            ('(signal.SIGINT, signal.SIGPIPE)', '(signal.SIGINT,)'),
            ('    files.close_output()\n', ''),
            ('print(text, flush=True)', 'print(text)'),
        ],
        'test_report.py::test_ctrl_c_ends_the_report_without_a_traceback': [
            ('(signal.SIGINT, signal.SIGPIPE)', '(signal.SIGPIPE,)'),
        ],
        'test_report.py::test_a_folder_that_cannot_be_written_to_still_'
        'gives_the_table': [
            ('    faults.append(error)\n  for fault',
             '    sys.exit(str(error))\n  for fault'),
        ],
        'test_report.py::test_a_full_disk_leaves_the_old_files': [
            ('    files.write(path, content)\n',
             "    open(path, 'wb').write(content)\n"),
        ],
        'test_report.py::test_through_a_link_the_report_is_the_same': [
            ('os.path.realpath(__file__)', 'os.path.abspath(__file__)'),
        ],
        'test_report.py::test_the_report_loads_no_tensorflow': [
            ('import tables\n', 'import tables\nimport cifar10\n'),
        ],
    },
    'tests/demo_data.py': {
        'test_demo_data.py::test_stopped_it_leaves_nothing_and_no_traceback': [
            ('    shutil.rmtree(part, ignore_errors=True)', '    pass'),
            ('signal.SIGTERM, signal.SIGUSR1)', 'signal.SIGTERM)'),
            ('except KeyboardInterrupt:', 'except ValueError:'),
        ],
        'test_demo_data.py::test_two_at_once_make_one': [
            ('if not os.path.isdir(os.path.join(folder, FOLDER)):', 'if True:'),
        ],
        'test_demo_data.py::test_a_folder_that_cannot_be_made_is_one_'
        'sentence': [
            ('  except OSError as error:\n    sys',
             '  except ValueError as error:\n    sys'),
        ],
        'test_demo_data.py::test_data_that_are_there_stay_as_they_are': [
            ('    if place == folder and lacks == FILES:', '    if lacks:'),
        ],
    },
    'benchmarks/gpu.py': {
        'test_benchmarks.py::test_the_gpus_figures': [
            ('max(start, reached))', 'start)'),
            ('reached = max(reached, end)', 'reached = end'),
            ('ratios.append(min(', 'ratios.append(max('),
            ("['speedup_vs_pytorch_best'] = min(",
             "['speedup_vs_pytorch_best'] = max("),
        ],
    },
    'benchmarks/timing.py': {
        'test_benchmarks.py::test_a_result_that_cannot_be_printed': [
            ('    os.dup2(os.open(os.devnull, os.O_WRONLY), '
             'sys.stdout.fileno())\n',
             ''),
            ('sys.exit(128 + signal.SIGPIPE if isinstance(error, '
             'BrokenPipeError) else\n             ',
             'sys.exit('),
        ],
    },
    'results/figures.py': {
        'test_figures.py::test_figures_do_not_depend_on_their_readers_'
        'settings': [
            ("os.environ['MPLBACKEND'] = 'agg'", 'pass'),
            ('matplotlib.rcdefaults()', 'pass'),
        ],
        'test_figures.py::test_figures_show_what_the_table_says': [
            ("'--' if label == TUNED_SCRATCH else '-')", "'-')"),
            ("      panels = ['no', 'yes']\n", '      pass\n'),
        ],
        'test_figures.py::test_the_figure_of_costs_shows_both_tables': [
            ('if tables.cell(row) == PARENT and cost', 'if cost'),
            ("((table, '--'), (budgets, '-'))", "((table, '-'), (budgets, "
             "'-'))"),
            ('min(end, ends.get(label, end))', 'end'),
            ("if ('yes', label) in drawn:", "if label == 'scratch':"),
            ('left=(1.6 * high / low)**0.7,', 'left=1.1,'),
            ('             right=1.6)', '             right=1.01)'),
            ('rows = sorted(rows, key=cost)', 'rows = list(rows)'),
            ("if row['n'] > 2 else 0", "if 'top1_sd' in row else 1"),
        ],
        'test_figures.py::test_the_figure_of_measured_costs': [
            ('    if len(ticks) > 1:', '    if True:'),
        ],
    },
    'results/cells.py': {
        'test_cells.py::test_what_does_not_say_its_settings_is_made_again': [
            (" and isinstance(report.get('settings'), dict)", ''),
        ],
        'test_cells.py::test_a_training_from_scratch_has_the_widths_of_its_'
        'budget': [
            ('**widths(settings, network)}', '}'),
            ('multiply_adds_share=network.share, parameters_share='
             'network.share,\n', '\n'),
            ('(made(settings, Network(network.seed, mode, network.size))',
             '(made(settings, network)'),
            ('  if network.mode == SCRATCH and network.share and name in (',
             '  if False and name in ('),
            # Only while its sweep makes them.
            ('             for mode in MODES)', '             for mode in '
             'settings.modes)'),
        ],
        'test_report.py::test_a_table_is_of_one_schedule_and_of_conv1_alone': [
            ('OTHERS = cifar10.Widths()', 'OTHERS = cifar10.Widths(64, 1)'),
        ],
        'test_cells.py::test_folders_of_other_names_are_not_looked_at': [
            ("'[1-9][0-9]*|%s0[.][0-9]*[1-9]'", "'[1-9][0-9]*|%s0[.][0-9]*'"),
        ],
        'test_cells.py::test_constants_are_those_of_the_programs': [
            ("'finetune': 0.01, ", "'finetune': 0.02, "),
            ('LOCATIONS = 10', 'LOCATIONS = 11'),
        ],
        'test_cells.py::test_parents_come_first_and_a_cell_has_all_of_a_'
        'width': [
            ('  if settings.modes or settings.controls:\n', '  if True:\n'),
            ('    if mode in tuned:\n', '    if True:\n'),
            ('tuned = settings.modes and [SCRATCH,', 'tuned = [SCRATCH,'),
            ('[SCRATCH, *settings.modes]', 'settings.modes'),
            ('widths[1:] + list(settings.budgets)\n', 'widths[1:]\n'),
            ('  elif share(cell.size):', '  elif False:'),
        ],
        'test_cells.py::test_what_is_damaged_is_not_finished': [
            ('    if digest != self._digest(network, step):', '    if False:'),
            ('  except (OSError, ValueError, RecursionError):\n    return None',
             '  except FileNotFoundError:\n    return None'),
        ],
        'test_cells.py::test_a_result_of_something_else_finishes_nothing': [
            ("    if step != report.get('last_step', 0):", '    if False:'),
            ("    if (result.get('split'), result.get('weights')) != ('test', "
             "'averaged'):",
             "    if result.get('split') != 'test':"),
        ],
        'test_cells.py::test_children_of_weights_that_were_made_again_do_'
        'not_fit': [
            ('    if network.parent and self(network.parent)[0]:',
             '    if False:'),
            ('    if self.fine_tuned:\n',
             '    if self.fine_tuned and self.mode != SCRATCH:\n'),
        ],
        'test_cells.py::test_a_cell_whose_parent_is_unfinished_says_so_first': [
            ('    mine = [Network(cell.seed, SCRATCH, CONV1_CHANNELS)] + '
             'mine\n',
             '    pass\n'),
        ],
        'test_cells.py::test_other_settings_do_not_fit': [
            ("      yield from differences({name: report.get('epochs')}, "
             '{name: epochs})\n',
             ''),
            ("'finetune_epochs' if network.fine_tuned else 'epochs'",
             "'epochs'"),
        ],
        'test_cells.py::test_one_unfinished_network_does_not_fit_as_well': [
            ('parent=expected(settings, data, network.parent))', ')'),
            ('      parent_step=last_step(settings.epochs, data))', '      )'),
        ],
        'test_cells.py::test_networks_made_by_hand_in_another_way_do_not_fit': [
            (' learning_rate=LEARNING_RATES[schedule],', ''),
            (" 'seed': network.seed,\n", '\n'),
            (', OTHERS.get(name))   #', ')   #'),
            ('return dict(OTHERS, conv1', 'return dict(conv1'),
        ],
        'test_cells.py::test_a_training_of_another_length_does_not_fit': [
            ("      yield from differences(report, {'last_step': last_"
             'step(epochs, data)})\n',
             ''),
        ],
    },
    'run_experiments.sh': {
        'test_run_experiments.py::test_usage': [
            ('plan | status) (($# == 1)) ||', 'plan | status) true ||'),
        ],
        'test_run_experiments.py::test_what_is_no_cell_is_refused': [
            ('(0|[1-9][0-9]*) [1-9][0-9]*$', '[0-9]+ [0-9]+$'),
        ],
        'test_run_experiments.py::test_a_bad_setting_is_refused_at_once': [
            ('set -feuo', 'set -euo'),
            ('  ((word < 2 ** 31)) ||', '  ((word < 2 ** 40)) ||'),
            ('((${#list[@]} >= $2 &&', '((${#list[@]} >= 0 &&'),
            ('(0[1-9]|[1-9])[0-9]{0,9}', '[0-9]{1,9}'),
        ],
        'test_run_experiments.py::test_settings_are_split_and_normalised': [
            ('  for word in ${!1//,/ }; do', '  for word in ${!1}; do'),
            ('[[ $1 != GPUS && " ${list[*]} "', '[[ " ${list[*]} "'),
            ("words BUDGETS 0 $many '0*[.]", "words BUDGETS 0 $many '0?[.]"),
        ],
        'test_run_experiments.py::test_a_schedule_has_its_epochs': [
            ('[published]=128 [fast]=50', '[published]=128 [fast]=51'),
        ],
        'test_run_experiments.py::test_names_mean_the_folder_where_one_'
        'stands': [
            ('self=$(readlink -f -- "${BASH_SOURCE[0]}")',
             'self=$PWD/${BASH_SOURCE[0]}'),
            ('PYTHON=$program\n', 'PYTHON=$(readlink -f -- "$program")\n'),
        ],
        'test_run_experiments.py::test_a_polite_stop_saves_and_says_how_to_'
        'go_on': [
            ('signals=(HUP INT', 'signals=(INT'),
            ('assigned "${given[@]}"', 'assigned OUT'),
        ],
        'test_run_experiments.py::test_a_stop_reaches_a_paused_training_and_'
        'all_of_a_group': [
            ('kill -CONT $children "${!device_of[@]}";', 'true;'),
        ],
        'test_run_experiments.py::test_nothing_is_believed_to_be_finished': [
            ('  elif [[ $left == scratch_64\\ * ]]; then',
             '  elif false; then'),
            ('  [[ -z $left ]] || halt 1 "the table',
             '  [[ -n "" ]] || : "the table'),
        ],
        'test_run_experiments.py::test_other_settings_are_refused_before_'
        'anything_runs': [
            ('results/status.py left "$@") || exit; }',
             'results/status.py left "$@") || true; }'),
        ],
        'test_run_experiments.py::test_it_says_what_it_will_do_does_and_has_'
        'made': [
            ('SECONDS=0  ', ''),
            ("    printf '[%s] %s\\n' \"$1\" \"$line\"",
             "    printf '%s\\n' \"$line\""),
            ('line="+ $(quoted "$@")"', 'line="+ $* "'),
            ('run "$PYTHON" "$here/$2"', 'run "$PYTHON" "$2"'),
        ],
        'test_run_experiments.py::test_status_at_any_time': [
            (' && flock -w 1 "$file" &&', ' &&'),
            ('\\${halted:-} ]] ||', '\\${halted:-yes} ]] ||'),
            ('  (($1 < 128)) || halted=yes\n', ''),
        ],
        'test_run_experiments.py::test_slurm_jobs_wait_for_their_seeds_'
        'parent': [
            ('"--chdir=$stood" ', ''),
            ('cell slim $seed budget$share', 'cell slim $seed $share'),
        ],
        'test_run_experiments.py::test_slurm_has_no_empty_jobs': [
            ('    [[ ! $widths ]] ||\n      submit "scratch',
             '    submit "scratch'),
            ('[[ ! $widths || ! $MODES$CONTROLS ]]', '[[ ! $widths ]]'),
            ('[[ ! $widths || ! $MODES$CONTROLS ]]', '[[ ! $MODES$CONTROLS ]]'),
        ],
        'test_run_experiments.py::test_budgets_without_a_compression_are_'
        'refused_at_once': [
            ('[[ ! $BUDGETS || $MODES$CONTROLS ]]', '[[ 1 ]]'),
        ],
        'test_run_experiments.py::test_the_cell_of_a_budget_goes_on_with_its_'
        'widths': [
            ('  tuned "$1" "scratch_$2"\n', ''),
            ('      tuned "$2" "$slim"\n', ''),
            ('"--multiply_adds=${3#budget}" "--parameters', '"--parameters'),
            ('      ((!${#size[@]})) || trained', '      trained'),
            ('"${@:3}" \\\n    "--schedule', '"--schedule'),
        ],
    },
}


def chosen(words):
  """The mutations that mention one of the words; without words, all."""
  found = [Mutation(file, *pair, 'tests/' + test)
           for file, tests in MUTATIONS.items()
           for test, pairs in tests.items() for pair in pairs]
  return [mutation for mutation in found if not words or any(
      word.lower() in ' '.join(mutation).lower() for word in words)]


def pytest_in(folder, tests, log):
  """In a process of its own: runs tests of a copy of the tree, and exits."""
  os.chdir(folder)
  for stream in (1, 2):
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
  sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
  os.environ['COLUMNS'] = '200'    # For whole sentences in pytest's summary.
  sys.dont_write_bytecode = True   # One mutant's might be taken for another's.
  sys.exit(pytest.main(['-q', '-rfE', '--tb=line', '-p', 'no:cacheprovider',
                        '--maxfail=%d' % (1 if len(tests) == 1 else 10)] +
                       tests))


def run_tests(folder, tests):
  """Runs tests of a copy of the tree; returns (exit code, output)."""
  log = folder + '.log'
  process = PROCESSES.Process(target=pytest_in, args=(folder, tests, log))
  process.start()
  process.join(SECONDS)
  process.kill()   # If it has not ended, its exit code is -9.
  process.join()
  with open(log) as source:
    output = source.read()
  os.unlink(log)
  return process.exitcode, output


def fault(folder, mutation):
  """Applies a mutation to a copy of the tree, runs its test, and undoes it.

  Returns:
    (caught, reason): whether the test failed by itself, and pytest's line that
    says so, or what was found instead.
  """
  path = os.path.join(folder, mutation.file)
  with open(path) as source:
    text = source.read()
  if text.count(mutation.original) != 1:
    return False, 'the original is there %d times' % text.count(
        mutation.original)
  mutant = text.replace(mutation.original, mutation.replacement)
  try:
    if path.endswith('.py'):
      compile(mutant, path, 'exec')
  except SyntaxError as error:
    return False, 'does not compile: %s' % error
  with open(path, 'w') as target:
    target.write(mutant)
  code, output = run_tests(folder, [mutation.test])
  with open(path, 'w') as target:
    target.write(text)
  if code == 0:
    return False, 'SURVIVED ' + mutation.test
  failed = re.findall('^FAILED .*', output, re.M)
  if code != 1 or not failed or re.search('^ERROR ', output, re.M):
    return False, '%s did not itself fail:\n%s' % (mutation.test,
                                                  output[-2000:])
  return True, failed[0]


def main():
  mutations, left = chosen(sys.argv[1:]), []
  if not mutations:
    sys.exit('No mutation mentions %s.' % ' or '.join(sys.argv[1:]))
  with tempfile.TemporaryDirectory() as above:
    folders = queue.SimpleQueue()
    for number in range(JOBS):
      folder = os.path.join(above, str(number))
      shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(
          '.*', '__pycache__', 'runs', 'data'))
      folders.put(folder)
    tests = sorted({mutation.test for mutation in mutations})
    code, output = run_tests(folder, tests)
    if code != 0:
      sys.exit('Without any mutation, not all of the tests pass:\n' + output)
    print('%d tests pass; now %d mutations.' % (len(tests), len(mutations)),
          flush=True)

    def attempt(mutation):
      folder = folders.get()
      try:
        return fault(folder, mutation)
      finally:
        folders.put(folder)

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
      for mutation, (caught, reason) in zip(mutations,
                                            pool.map(attempt, mutations)):
        line = '%s: %r -> %r\n  %s' % (*mutation[:3], reason)
        print(line, flush=True)
        if not caught:
          left.append(line)
  print('%d of %d mutations are caught.' % (len(mutations) - len(left),
                                            len(mutations)))
  print('\n'.join(left))
  return 1 if left else 0


if __name__ == '__main__':
  sys.exit(main())
