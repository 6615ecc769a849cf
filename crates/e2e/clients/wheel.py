"""Makes a wheel with one data file:  wheel.py DATA FOLDER"""

import sys
import zipfile

data, folder = sys.argv[1:]
with zipfile.ZipFile(f"{folder}/mg_test-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("mg_test/__init__.py", "")
    wheel.write(data, "mg_test/data.bin")
    info = "mg_test-1.0.dist-info"
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mg-test\nVersion: 1.0\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", "")
