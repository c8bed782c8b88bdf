# Reads the reports of a check with the programs that others read them with: the number
# of expectations, of those that do not hold, and of problems, from each.
#
#     python reports.py junit|sarif|tap FILE
import sys

kind, file = sys.argv[1:]
if kind == "junit":
    from junitparser import Error, Failure, JUnitXml

    xml = JUnitXml.fromfile(file)
    cases = [case for suite in xml for case in suite]
    kinds = [type(result) for case in cases for result in case.result]
    assert xml.tests == len(cases) and xml.failures == kinds.count(Failure), file
    assert xml.errors == kinds.count(Error), file
    print(len(cases) - xml.errors, xml.failures, xml.errors)
elif kind == "tap":
    from tap.parser import Parser

    lines = list(Parser().parse_file(file))
    plans = [line for line in lines if line.category == "plan"]
    tests = [line for line in lines if line.category == "test"]
    assert [plan.expected_tests for plan in plans] == [len(tests)], file
    assert not [line for line in lines if line.category == "unknown" and str(line).strip()], file
    print(len(tests), len([test for test in tests if not test.ok]))
else:
    from sarif import loader

    report = loader.load_sarif_file(file)
    assert report.data["version"] == "2.1.0", file
    records = report.get_records()
    places = [r["Location"].endswith(".policy") for r in records]
    print(len(records), places.count(True))
